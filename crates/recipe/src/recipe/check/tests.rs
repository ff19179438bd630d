use super::*;
use crate::recipe::tests::FULL_TEXT;

fn keys(text: &str) -> Vec<String> {
    let recipe = Recipe::parse(text, "recipe.toml").unwrap_or_else(|error| panic!("{error}"));
    let problems = recipe.validate().err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.key).collect()
}

/// The keys found wrong after one line of the complete recipe was replaced.
fn with(from: &str, to: &str) -> Vec<String> {
    assert!(FULL_TEXT.contains(from), "{from}");
    keys(&FULL_TEXT.replace(from, to))
}

#[test]
fn all_missing_keys_are_named_at_once() {
    assert_eq!(keys(""), ["model", "data.train", "method"]);
}

#[test]
fn learning_rate_lies_between_zero_and_one() {
    for rate in ["0", "0.0", "-1", "-1e-4", "nan", "inf", "1", "1.0", "3"] {
        let found = with("learning_rate = 2e-4", &format!("learning_rate = {rate}"));
        assert_eq!(found, ["train.learning_rate"], "{rate}");
    }
    assert!(with("learning_rate = 2e-4", "learning_rate = 0.999").is_empty());
}

#[test]
fn each_bad_number_is_found() {
    for (from, to, key) in [
        ("max_tokens = 512", "max_tokens = 0", "data.max_tokens"),
        ("max_truncated = 0.25", "max_truncated = -0.1", "data.max_truncated"),
        ("max_truncated = 0.25", "max_truncated = 1.1", "data.max_truncated"),
        ("max_truncated = 0.25", "max_truncated = nan", "data.max_truncated"),
        ("r = 16", "r = 0", "method.lora.r"),
        ("lora_alpha = 32", "lora_alpha = 0", "method.lora.lora_alpha"),
        ("lora_alpha = 32", "lora_alpha = nan", "method.lora.lora_alpha"),
        ("lora_dropout = 0.05", "lora_dropout = 1", "method.lora.lora_dropout"),
        ("lora_dropout = 0.05", "lora_dropout = -0.1", "method.lora.lora_dropout"),
        ("[\"q_proj\", \"v_proj\"]", "[]", "method.lora.target_modules"),
        ("[\"q_proj\", \"v_proj\"]", "\"\"", "method.lora.target_modules"),
        ("max_steps = 100", "max_steps = 0", "train.max_steps"),
        ("micro_batch_size = 3", "micro_batch_size = 0", "train.micro_batch_size"),
        ("micro_batch_size = 3", "micro_batch_size = 9", "train.micro_batch_size"),
        ("weight_decay = 0.0\n", "weight_decay = -0.1\n", "train.optimizer.adamw.weight_decay"),
        ("beta1 = 0.9", "beta1 = 1.0", "train.optimizer.adamw.beta1"),
        ("beta2 = 0.95", "beta2 = nan", "train.optimizer.adamw.beta2"),
        ("epsilon = 1e-8", "epsilon = 0", "train.optimizer.adamw.epsilon"),
        ("loraplus_lr_ratio = 16", "loraplus_lr_ratio = 0", "train.loraplus_lr_ratio"),
        ("match = \".*norm.*\"", "match = \"\"", "train.groups.1.match"),
        ("match = \".*norm.*\"", "match = \"(\"", "train.groups.1.match"),
        ("learning_rate = 1e-5", "learning_rate = 1", "train.groups.1.learning_rate"),
        ("weight_decay = 0.05", "weight_decay = 1", "train.groups.1.weight_decay"),
        ("max_grad_norm = 0", "max_grad_norm = -1", "train.max_grad_norm"),
        ("eval_steps = 50", "eval_steps = 0", "train.eval_steps"),
        ("save_steps = 100", "save_steps = 0", "train.save_steps"),
        ("save_total_limit = 3", "save_total_limit = 0", "train.save_total_limit"),
        ("min_lr_ratio = 0.1", "min_lr_ratio = 1.1", "train.schedule.cosine.min_lr_ratio"),
        ("warmup_steps = 10", "warmup_ratio = 1.0", "train.schedule.cosine.warmup_ratio"),
        ("max_new_tokens = 32", "max_new_tokens = 0", "eval.max_new_tokens"),
    ] {
        let found = with(from, to);
        assert!(found.iter().any(|found| found == key), "{to}: {found:?}");
    }
}

#[test]
fn warmup_is_not_longer_than_training() {
    let key = "train.schedule.cosine.warmup_steps";
    assert_eq!(with("warmup_steps = 10", "warmup_steps = 101"), [key]);
    assert!(with("warmup_steps = 10", "warmup_steps = 100").is_empty());
}

/// The keys found wrong in a recipe with these lines in or below `[train]`.
fn train(lines: &str) -> Vec<String> {
    keys(&format!("model = \"m\"\ndata.train = \"t\"\nmethod.full = {{}}\n[train]\n{lines}"))
}

#[test]
fn each_bad_number_of_an_optimizer_is_found() {
    for (section, line) in [
        ("adamw_8bit", "epsilon = nan"),
        ("sgd", "momentum = 1"),
        ("sgd", "nesterov = true"),
        ("sgd", "dampening = 0.1"),
        ("lion", "beta1 = -0.1"),
        ("adafactor", "epsilon1 = 0"),
        ("adafactor", "epsilon2 = 1e-3"),
        ("adafactor", "clip_threshold = 0"),
        ("adafactor", "decay_rate = 0.8"),
        ("adafactor", "beta1 = 1"),
        ("adafactor", "warmup_init = true"),
        ("muon", "ns_steps = 100"),
        ("muon", "ns_steps = 0"),
        ("muon", "adamw_match = \"[\""),
        ("muon", "adamw_learning_rate = 2"),
    ] {
        let name = line.split(' ').next().unwrap();
        let found = train(&format!("[train.optimizer.{section}]\n{line}"));
        assert_eq!(found, [format!("train.optimizer.{section}.{name}")], "{line}");
        assert!(train(&format!("[train.optimizer.{section}]")).is_empty());
    }
}

#[test]
fn each_bad_number_of_a_schedule_is_found() {
    for (section, line, name) in [
        ("cosine_with_restarts", "num_cycles = 0", "num_cycles"),
        ("polynomial", "power = 0", "power"),
        ("polynomial", "lr_end = 1e-3", "lr_end"),
        ("inverse_sqrt", "timescale = 0", "timescale"),
        ("wsd", "min_lr_ratio = 2", "min_lr_ratio"),
        ("wsd", "decay_ratio = 0", "decay_ratio"),
        ("wsd", "decay_ratio = 0.8\nwarmup_ratio = 0.3", "decay_ratio"),
        ("wsd", "decay_steps = 0", "decay_steps"),
        ("wsd", "warmup_steps = 60\ndecay_steps = 41", "decay_steps"),
        ("wsd", "decay_steps = 4\ndecay_ratio = 0.1", "decay_ratio"),
    ] {
        let text = |line| format!("max_steps = 100\n[train.schedule.{section}]\n{line}");
        let found = train(&text(line));
        assert_eq!(found, [format!("train.schedule.{section}.{name}")], "{line}");
        assert!(train(&text("")).is_empty());
    }
}

#[test]
fn rates_without_effect_are_refused() {
    assert_eq!(train("loraplus_lr_ratio = 16"), ["train.loraplus_lr_ratio"]);
    let group = "[[train.groups]]\nmatch = \".*\"";
    assert_eq!(train(group), ["train.groups.1"]);
    let relative = "[train.optimizer.adafactor]\nrelative_step = true\n";
    assert!(train(relative).is_empty());
    let found = train(&format!("learning_rate = 0.1\n{relative}{group}\nlearning_rate = 0.1"));
    assert_eq!(found, ["train.learning_rate", "train.groups.1.learning_rate"]);
}

#[test]
fn both_of_an_exclusive_pair_are_refused() {
    let both = "max_steps = 100\nnum_epochs = 1";
    assert_eq!(with("max_steps = 100", both), ["train.num_epochs"]);
    let both = "warmup_steps = 10\nwarmup_ratio = 0.1";
    assert_eq!(with("warmup_steps = 10", both), ["train.schedule.cosine.warmup_ratio"]);
    let three = "validation_fraction = 0.1\nvalidation_rows = 9\nformat";
    let found = with("format", three);
    assert_eq!(found, ["data.validation_rows", "data.validation_fraction"]);
}

#[test]
fn keys_without_effect_are_refused() {
    let found = with("validation = \"data/y.jsonl\"", "");
    assert_eq!(found, ["train.eval_steps", "eval.generate"]);
    let found = keys("model = \"m\"\ndata.train = \"t\"\nmethod.full = {}\nexport.adapter = true");
    assert_eq!(found, ["export.adapter"]);
}

#[test]
fn ways_to_share_rows_that_leave_each_other_nothing_to_do_are_refused() {
    let grouped = ["data.group_by_length"];
    assert_eq!(with("packing = \"none\"", "packing = \"bfd\""), grouped);
    assert_eq!(with("batching = \"padded\"", "batching = \"padding_free\""), grouped);
    let start = "model = \"m\"\ndata.train = \"t\"\nmethod.full = {}\n";
    let both = "data.packing = \"bfd\"\ndata.batching = \"padding_free\"\n";
    assert_eq!(keys(&format!("{start}{both}")), ["data.batching"]);
    for one in both.lines() {
        let alone = format!("{start}{one}\ntrain.micro_batch_size = 1");
        assert!(keys(&alone).is_empty(), "{one}");
    }
    assert_eq!(with("too_long = \"drop\"", "too_long = \"error\""), ["data.max_truncated"]);
}

#[test]
fn several_problems_come_together_and_say_what_would_do() {
    let text = FULL_TEXT.replace("r = 16", "r = 0").replace("batch_size = 8", "batch_size = 0");
    let problems = Recipe::parse(&text, "recipe.toml").unwrap().validate().unwrap_err();
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "`method.lora.r` is `0`, wanted a whole number, 1 or more",
            "`train.batch_size` is `0`, wanted a whole number, 1 or more",
            "`train.micro_batch_size` is `3`, wanted at most the `batch_size` of `0`",
        ]
    );
}
