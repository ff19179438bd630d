use std::path::{Path, PathBuf};

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use rekindle_recipe::events::Status;

use super::*;

fn step(step: u64) -> Event {
    let part = step as f64 / 40.0;
    Event::Step {
        step,
        total_steps: 100,
        loss: 2.0 * (-2.0 * part).exp() + 0.1 * (step as f64).sin(),
        grad_norm: 1.0 + part,
        learning_rate: 1e-3 * (1.0 - part),
        tokens: 640,
        seconds: 2.0,
        tokens_per_second: 320.0,
        skipped: step == 7,
        memory_bytes: Some(3 << 28),
    }
}

fn eval(step: u64, loss: f64) -> Event {
    Event::Eval {
        step,
        split: "validation".into(),
        loss,
        perplexity: loss.exp(),
        tokens: 100,
        exact_match: Some(0.25),
    }
}

fn sample(step: u64, given: &str) -> Event {
    Event::Sample {
        step,
        split: "validation".into(),
        question: "What colour is the lamp?".into(),
        wanted: "red.".into(),
        given: given.into(),
    }
}

/// A run in its middle.
fn dashboard() -> Dashboard {
    let mut dashboard = Dashboard::new(History::default());
    let mut events = vec![
        Event::RunStarted {
            run: "colours".into(),
            model: "models/tiny".into(),
            method: "lora".into(),
            trainable_parameters: 10,
            total_parameters: 1000,
            device: "cpu".into(),
            train_rows: 100,
            validation_rows: 10,
            target_tokens: 6400,
            total_steps: 100,
        },
        Event::Warning { message: "3 rows were left out; rejects.jsonl says which".into() },
        eval(0, 2.5),
        sample(0, "\u{1b}[2Jblue"),
    ];
    events.extend((1..=20).map(step));
    events.push(eval(20, 1.2));
    events.push(sample(20, "red."));
    events.push(Event::Checkpoint { step: 20, path: PathBuf::from("checkpoints/step-000020") });
    events.extend((21..=40).map(step));
    events.iter().for_each(|event| dashboard.apply(event));
    dashboard
}

fn screen(dashboard: &Dashboard, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, dashboard, true)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| format!("{}\n", row(y).trim_end())).collect()
}

/// Compares with the committed picture; a new picture is shown whole, to be looked at and kept.
#[track_caller]
fn check(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/snapshots").join(name);
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shown == wanted, "{name} differs:\n{shown}");
}

#[test]
fn the_picture_at_80_by_24() {
    check("loss-80x24.txt", &screen(&dashboard(), 80, 24));
}

#[test]
fn the_picture_at_120_by_40_has_every_curve() {
    let shown = screen(&dashboard(), 120, 40);
    check("loss-120x40.txt", &shown);
    for pane in Pane::ALL.into_iter().filter(|pane| pane.is_chart()) {
        assert!(shown.contains(&format!("┌{}─", pane.name())), "{}", pane.name());
    }
}

#[test]
fn the_picture_at_20_by_8_has_the_figures() {
    check("figures-20x8.txt", &screen(&dashboard(), 20, 8));
}

#[test]
fn samples_stand_beside_the_base_model_and_cannot_steer_the_terminal() {
    let mut dashboard = dashboard();
    dashboard.key(Key::Previous);
    assert_eq!(dashboard.pane, Pane::Samples);
    let shown = screen(&dashboard, 80, 24);
    check("samples-80x24.txt", &shown);
    assert!(!shown.contains('\u{1b}'));
}

#[test]
fn stopping_twice_ends_at_once_and_both_are_said() {
    let mut dashboard = dashboard();
    assert_eq!(dashboard.key(Key::Stop), Some(Action::Stop));
    assert!(screen(&dashboard, 80, 24).contains("q again ends at once"));
    assert_eq!(dashboard.key(Key::Stop), Some(Action::Abort));
}

#[test]
fn tab_goes_through_all_panes_and_back_to_the_first() {
    let mut dashboard = dashboard();
    let mut seen = Vec::new();
    for _ in Pane::ALL {
        seen.push(dashboard.pane);
        assert_eq!(dashboard.key(Key::Next), None);
    }
    assert_eq!(seen, Pane::ALL);
    assert_eq!(dashboard.pane, Pane::Loss);
}

#[test]
fn help_lists_the_keys_until_it_is_closed() {
    let mut dashboard = dashboard();
    dashboard.key(Key::Help);
    assert!(screen(&dashboard, 80, 24).contains("save a checkpoint and stop"));
    dashboard.key(Key::Close);
    assert!(!screen(&dashboard, 80, 24).contains("save a checkpoint and stop"));
}

#[test]
fn events_scroll_to_the_oldest_and_back() {
    let mut dashboard = dashboard();
    (0..60).for_each(|n| dashboard.apply(&Event::Warning { message: format!("number {n}") }));
    dashboard.pane = Pane::Events;
    assert!(screen(&dashboard, 80, 20).contains("number 59"));
    (0..1000).for_each(|_| assert_eq!(dashboard.key(Key::Up), None));
    let shown = screen(&dashboard, 80, 20);
    assert!(shown.contains("3 rows were left out") && !shown.contains("number 59"), "{shown}");
    (0..1000).for_each(|_| assert_eq!(dashboard.key(Key::Down), None));
    assert!(screen(&dashboard, 80, 20).contains("number 59"));
}

#[test]
fn without_colours_nothing_is_coloured() {
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    let mut dashboard = dashboard();
    dashboard.key(Key::Stop);
    let mut colored = |color| {
        terminal.draw(|frame| view::draw(frame, &dashboard, color)).unwrap();
        let cells = terminal.backend().buffer().content().iter();
        let reset = ratatui::style::Color::Reset;
        cells.filter(|cell| cell.fg != reset || cell.bg != reset).count()
    };
    assert_eq!(colored(false), 0);
    assert!(colored(true) > 0);
}

#[test]
fn a_run_goes_on_where_its_earlier_part_ended() {
    let mut dashboard = Dashboard::new(dashboard().history);
    dashboard.apply(&step(31));
    assert_eq!(dashboard.history.step(), 31);
    assert_eq!(dashboard.history.steps.len(), 31);
    dashboard.apply(&Event::Finished { status: Status::Cancelled, steps: 31, seconds: 1.0 });
    assert!(screen(&dashboard, 80, 24).contains("Cancelled after 31 steps"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_size_and_any_numbers_give_a_picture(
        width in 1..200_u16,
        height in 1..200_u16,
        turns in 0..6_usize,
        help: bool,
        filled: bool,
        losses in proptest::collection::vec(proptest::num::f64::ANY, 0..6),
        total: u64,
    ) {
        let mut it = if filled { dashboard() } else { Dashboard::new(History::default()) };
        for (index, loss) in losses.into_iter().enumerate() {
            it.apply(&Event::Step {
                step: u64::MAX - 10 + index as u64,
                total_steps: total,
                loss,
                grad_norm: -loss,
                learning_rate: loss,
                tokens: 1 << 50,
                seconds: loss,
                tokens_per_second: loss,
                skipped: false,
                memory_bytes: Some(u64::MAX),
            });
            it.apply(&eval(total, loss));
        }
        (0..turns).for_each(|_| assert_eq!(it.key(Key::Next), None));
        it.help = help;
        screen(&it, width, height);
    }
}
