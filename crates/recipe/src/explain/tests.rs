use crate::recipe::Recipe;

/// The whole message for a recipe, as shown without colours.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let error = Recipe::parse(text, "recipe.toml").expect_err("a wrong recipe");
    assert_eq!(error.render(false).lines().collect::<Vec<_>>(), expected);
}

const TOP: &str = "  = help: the top level takes `model`, `init`, `output`, `seed`, `data`, \
    `method`, `train`, `eval`, `export`, `report`";

const TRAIN: &str = "  = help: `[train]` takes `max_steps`, `num_epochs`, `batch_size`, \
    `micro_batch_size`, `learning_rate`, `max_grad_norm`, `eval_steps`, `save_steps`, \
    `save_total_limit`, `on_save_error`, `precision`, `recompute`, `recompute_offload`, `label_smoothing`, `z_loss`, `neftune_noise_alpha`, `ema_decay`, `early_stopping_patience`, `early_stopping_threshold`, `metric_for_best_model`, `load_best_model_at_end`, `loss_watchdog_threshold`, `loss_watchdog_patience`, `on_spike`, `loraplus_lr_ratio`, `groups`, `optimizer`, `schedule`";

#[test]
fn an_unknown_key_gets_the_one_that_was_meant() {
    check(
        "model = \"m\"\n\n[train]\nlerning_rate = 2e-4\n",
        &[
            "error: unknown key `lerning_rate` in `[train]`",
            " --> recipe.toml:4:1",
            "  |",
            "4 | lerning_rate = 2e-4",
            "  | ^^^^^^^^^^^^ did you mean `learning_rate`?",
            "  |",
            TRAIN,
        ],
    );
}

#[test]
fn an_unknown_section_gets_the_one_that_was_meant() {
    check(
        "[lora]\nr = 1\n",
        &[
            "error: unknown key `lora` at the top level",
            " --> recipe.toml:1:2",
            "  |",
            "1 | [lora]",
            "  |  ^^^^ did you mean `[method.lora]`?",
            "  |",
            TOP,
        ],
    );
}

#[test]
fn a_number_in_quotes_is_refused_at_its_place() {
    check(
        "[train]\nlearning_rate = \"1e-4\"\n",
        &[
            "error: `train.learning_rate` is the string `\"1e-4\"`",
            " --> recipe.toml:2:17",
            "  |",
            "2 | learning_rate = \"1e-4\"",
            "  |                 ^^^^^^ wanted a number",
            "  |",
            "  = help: write it without quotes: `learning_rate = 1e-4`",
        ],
    );
}

#[test]
fn an_unknown_value_gets_the_list_of_known_ones() {
    check(
        "[data]\nformat = \"alpacca\"\n",
        &[
            "error: unknown choice `alpacca` for `data.format`",
            " --> recipe.toml:2:10",
            "  |",
            "2 | format = \"alpacca\"",
            "  |          ^^^^^^^^^ did you mean `alpaca`?",
            "  |",
            "  = help: `data.format` is one of `auto`, `messages`, `sharegpt`, `alpaca`, \
             `prompt-completion`, `text`",
        ],
    );
    check(
        "[method.lroa]\nr = 1\n",
        &[
            "error: unknown choice `lroa` for `method`",
            " --> recipe.toml:1:9",
            "  |",
            "1 | [method.lroa]",
            "  |         ^^^^ did you mean `lora`?",
            "  |",
            "  = help: `method` is one of `lora`, `full`",
        ],
    );
}

#[test]
fn a_repeated_key_names_the_line_of_the_first() {
    check(
        "[train]\nbatch_size = 1\n\nbatch_size = 2\n",
        &[
            "error: `batch_size` is given twice",
            " --> recipe.toml:4:1",
            "  |",
            "4 | batch_size = 2",
            "  | ^^^^^^^^^^ first given on line 2",
        ],
    );
}

#[test]
fn a_key_of_another_method_is_told_its_owner() {
    check(
        "[method.full]\nr = 16\n",
        &[
            "error: unknown key `r` in `[method.full]`",
            " --> recipe.toml:2:1",
            "  |",
            "2 | r = 16",
            "  | ^ `r` belongs to `[method.lora]`, but `method` is `full` here",
            "  |",
            "  = help: `[method.full]` takes `freeze_embeddings`, `freeze_layers`",
        ],
    );
}

#[test]
fn a_key_of_another_section_is_told_its_owner() {
    check(
        "learning_rate = 1e-4\n",
        &[
            "error: unknown key `learning_rate` at the top level",
            " --> recipe.toml:1:1",
            "  |",
            "1 | learning_rate = 1e-4",
            "  | ^^^^^^^^^^^^^ `learning_rate` belongs to `[train]`",
            "  |",
            TOP,
        ],
    );
}

#[test]
fn two_methods_are_refused() {
    check(
        "[method.lora]\n[method.full]\n",
        &[
            "error: `method` has `full`, `lora`, wanted only one of them",
            " --> recipe.toml:1:2",
            "  |",
            "1 | [method.lora]",
            "  |  ^^^^^^",
            "  |",
            "  = help: write one of `[method.lora]`, `[method.full]`",
        ],
    );
}

#[test]
fn a_choice_is_a_section() {
    let line = |text: &str| {
        let error = Recipe::parse(text, "a").unwrap_err().render(false);
        error.lines().nth(4).unwrap_or_default().to_owned()
    };
    assert!(line("method = \"lora\"").ends_with("write `[method.lora]`"));
    assert!(line("[[train]]\nmax_steps = 1").ends_with("write `[train]`"));
    let moved = line("[train.schedule]\nwarmup_steps = 1");
    assert!(moved.ends_with("did you mean `warmup_steps` in `[train.schedule.linear]`?"));
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = 10_000;
    for text in [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{a=".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
    ] {
        let message = Recipe::parse(&text, "a").unwrap_err().message().to_owned();
        assert!(message.contains("more than 80"), "{message}");
    }
}

#[test]
fn long_names_and_values_are_shortened() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!("{long} = 1"),
        format!("seed = \"{long}\""),
        format!("init = \"{long}\""),
        format!("[method.{long}]"),
        format!("{long} = 1\n{long} = 2"),
    ] {
        let shown = Recipe::parse(&text, "a").unwrap_err().render(false);
        assert!(shown.len() < 2000, "{}", shown.len());
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    for text in ["\"\\u001b[31m\" = 1", "seed = \"\\u001b[31m\"", "# \u{1b}[31m\nx", "\u{1b}"] {
        let shown = Recipe::parse(text, "a").unwrap_err().render(false);
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }
}
