use std::path::Path;

use rekindle_data::{LengthReport, Padding};
use rekindle_models::load::open;

use super::*;
use crate::Recipe;

const ROWS: [usize; 5] = [40, 64, 10, 33, 64];

fn arch() -> Arch {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/families/llama3");
    open(Path::new(folder)).unwrap().arch().unwrap()
}

fn plan(text: &str) -> Plan {
    let text = format!("model = \"m\"\n[data]\ntrain = \"t\"\n{text}");
    Plan::resolve(Recipe::parse(&text, "r.toml").unwrap(), "r").unwrap()
}

fn dataset() -> Dataset {
    let sample =
        |&len: &usize| Sample { tokens: vec![3; len], target: vec![true; len], truncated: false };
    Dataset {
        train: ROWS.iter().map(sample).collect(),
        train_rows: Vec::new(),
        validation: Vec::new(),
        questions: Vec::new(),
        target_tokens: 0,
        total_tokens: 0,
        lengths: LengthReport::default(),
        rejects: Vec::new(),
    }
}

const MACHINE: Machine = Machine { padding: Padding { id: 0, multiple: 1 }, is_host: true };

fn forecast(plan: &Plan) -> Forecast {
    Forecast::of(plan, &arch(), &dataset(), MACHINE).unwrap()
}

#[test]
fn steps_and_tokens_are_those_of_the_data() {
    let found = forecast(&plan("[method.lora]\n[train]\nbatch_size = 2\nnum_epochs = 2.0\n"));
    assert_eq!((found.steps, found.steps_per_epoch), (6, 3));
    // The first token of a row is no target.
    let targets: usize = ROWS.iter().map(|len| len - 1).sum();
    assert_eq!(found.target_tokens, 2 * targets as u64);
    assert!(found.tokens >= found.target_tokens);
    assert_eq!(found.seq, 63);
    let packed = forecast(&plan(
        "max_tokens = 128\npacking = \"bfd\"\n[method.lora]\n[train]\nbatch_size = 1\nnum_epochs = 1.0\n",
    ));
    assert_eq!(packed.steps, 2);
}

#[test]
fn what_fits_alone_is_offered_cheapest_first() {
    let plan = plan("[method.full]\n[train]\nbatch_size = 4\n");
    let whole = forecast(&plan);
    let budget = whole.peak_bytes - 1;
    let changes = whole.cheaper(&plan, &arch(), &dataset(), MACHINE, budget).unwrap();
    assert_eq!(changes.len(), 3);
    assert!(changes.iter().all(|change| change.peak_bytes <= budget), "{changes:?}");
    assert_eq!(changes[0].set, "train.micro_batch_size=2");
    // Applied to the recipe, each does what it promises.
    for change in &changes {
        let text = plan.to_toml().unwrap();
        let set = std::slice::from_ref(&change.set);
        let (recipe, _) = crate::set::parse(&text, "r.toml", set).unwrap();
        let changed = Plan::resolve(recipe, "r").unwrap();
        assert_eq!(forecast(&changed).peak_bytes, change.peak_bytes, "{}", change.set);
    }
}

#[test]
fn where_nothing_fits_alone_changes_are_added_up() {
    let plan = plan("[method.full]\n[train]\nbatch_size = 4\n");
    let whole = forecast(&plan);
    let changes = whole.cheaper(&plan, &arch(), &dataset(), MACHINE, 1).unwrap();
    assert_eq!(changes.len(), 3);
    let peaks: Vec<_> = changes.iter().map(|change| change.peak_bytes).collect();
    assert!(peaks.windows(2).all(|pair| pair[1] < pair[0]), "{peaks:?}");
}
