//! Ranges of the learning rate, `[train.optimizer.*]` and `[[train.groups]]`.

use rekindle_train::PathPattern;

use super::Problems;
use crate::recipe::{
    AdafactorOptimizer, GroupSection, Method, MuonOptimizer, Optimizer, Recipe, SgdOptimizer,
};

pub(super) fn check(recipe: &Recipe, problems: &mut Problems) {
    let train = &recipe.train;
    let relative = train.optimizer.has_relative_steps();
    problems.learning_rate("train.learning_rate", train.learning_rate);
    if let (Some(rate), true) = (train.learning_rate, relative) {
        no_rate("train.learning_rate", rate, problems);
    }
    check_loraplus(recipe, problems);
    for (index, group) in train.groups.iter().enumerate() {
        check_group(&format!("train.groups.{}", index + 1), group, relative, problems);
    }
    check_optimizer(&train.optimizer, problems);
}

fn no_rate(key: &str, rate: f64, problems: &mut Problems) {
    let wanted = "none: `train.optimizer.adafactor.relative_step` has a step size of its own";
    problems.add(key, format!("`{rate}`"), wanted);
}

fn check_loraplus(recipe: &Recipe, problems: &mut Problems) {
    let Some(ratio) = recipe.train.loraplus_lr_ratio else { return };
    let key = "train.loraplus_lr_ratio";
    problems.above_zero(key, ratio);
    if !matches!(recipe.method, Some(Method::Lora(_)) | None) {
        problems.add(key, format!("`{ratio}`"), "an adapter to apply to: `[method.lora]`");
    }
}

fn check_group(key: &str, group: &GroupSection, relative: bool, problems: &mut Problems) {
    check_pattern(&format!("{key}.match"), &group.pattern, problems);
    let rate_key = format!("{key}.learning_rate");
    problems.learning_rate(&rate_key, group.learning_rate);
    if let (Some(rate), true) = (group.learning_rate, relative) {
        no_rate(&rate_key, rate, problems);
    }
    if let Some(decay) = group.weight_decay {
        problems.below_one(&format!("{key}.weight_decay"), decay);
    }
    if group.learning_rate.is_none() && group.weight_decay.is_none() {
        problems.add(key, "without effect", "`learning_rate`, `weight_decay` or both");
    }
}

fn check_pattern(key: &str, pattern: &str, problems: &mut Problems) {
    if pattern.is_empty() {
        problems.add(key, "empty", "a regular expression that matches names of parameters");
    } else if let Err(error) = PathPattern::new(pattern) {
        problems.add(key, error.to_string(), "a regular expression");
    }
}

fn check_optimizer(optimizer: &Optimizer, problems: &mut Problems) {
    let key = |name: &str| format!("train.optimizer.{}.{name}", optimizer.name());
    let mut shares = Vec::new();
    match optimizer {
        Optimizer::AdamW(it) => {
            shares.extend([("beta1", it.beta1), ("beta2", it.beta2)]);
            shares.push(("weight_decay", it.weight_decay));
            problems.above_zero(&key("epsilon"), it.epsilon);
        }
        Optimizer::AdamW8bit(it) => {
            shares.extend([("beta1", it.beta1), ("beta2", it.beta2)]);
            shares.push(("weight_decay", it.weight_decay));
            problems.above_zero(&key("epsilon"), it.epsilon);
        }
        Optimizer::Lion(it) => {
            shares.extend([("beta1", it.beta1), ("beta2", it.beta2)]);
            shares.push(("weight_decay", it.weight_decay));
        }
        Optimizer::Sgd(it) => {
            shares.extend([("momentum", it.momentum), ("dampening", it.dampening)]);
            shares.push(("weight_decay", it.weight_decay));
            check_sgd(it, problems);
        }
        Optimizer::Adafactor(it) => {
            shares.push(("weight_decay", it.weight_decay));
            shares.extend(it.beta1.map(|beta1| ("beta1", beta1)));
            check_adafactor(it, problems);
        }
        Optimizer::Muon(it) => {
            shares.extend([("momentum", it.momentum), ("weight_decay", it.weight_decay)]);
            shares.extend([("adamw_beta1", it.adamw_beta1), ("adamw_beta2", it.adamw_beta2)]);
            shares.push(("adamw_weight_decay", it.adamw_weight_decay));
            check_muon(it, problems);
        }
    }
    for (name, share) in shares {
        problems.below_one(&key(name), share);
    }
}

fn check_sgd(sgd: &SgdOptimizer, problems: &mut Problems) {
    let plain = sgd.momentum == 0.0;
    if sgd.nesterov && (plain || sgd.dampening != 0.0) {
        let wanted = "`momentum` above 0 and no `dampening` beside it";
        problems.add("train.optimizer.sgd.nesterov", "`true`", wanted);
    }
    if plain && sgd.dampening != 0.0 {
        let found = format!("`{}`", sgd.dampening);
        problems.add("train.optimizer.sgd.dampening", found, "`momentum` above 0 beside it");
    }
}

fn check_adafactor(adafactor: &AdafactorOptimizer, problems: &mut Problems) {
    let key = |name: &str| format!("train.optimizer.adafactor.{name}");
    problems.above_zero(&key("epsilon1"), adafactor.epsilon1);
    problems.above_zero(&key("clip_threshold"), adafactor.clip_threshold);
    let rate = adafactor.decay_rate;
    let holds = (-1.0..0.0).contains(&rate);
    problems.require(holds, &key("decay_rate"), rate, "-1 or more and below 0");
    if let Some(epsilon2) = adafactor.epsilon2 {
        problems.above_zero(&key("epsilon2"), epsilon2);
        if !adafactor.scale_parameter {
            let wanted = "`scale_parameter = true` beside it";
            problems.add(&key("epsilon2"), format!("`{epsilon2}`"), wanted);
        }
    }
    if adafactor.warmup_init && !adafactor.relative_step {
        problems.add(&key("warmup_init"), "`true`", "`relative_step = true` beside it");
    }
}

fn check_muon(muon: &MuonOptimizer, problems: &mut Problems) {
    let key = |name: &str| format!("train.optimizer.muon.{name}");
    problems.above_zero(&key("adamw_epsilon"), muon.adamw_epsilon);
    problems.learning_rate(&key("adamw_learning_rate"), muon.adamw_learning_rate);
    // PyTorch refuses 100 iterations and more.
    let holds = (1..100).contains(&muon.ns_steps);
    problems.require(holds, &key("ns_steps"), muon.ns_steps, "from 1 to 99");
    check_pattern(&key("adamw_match"), &muon.adamw_match, problems);
}
