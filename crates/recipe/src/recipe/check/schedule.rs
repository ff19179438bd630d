//! Ranges of `[train.schedule.*]`.

use super::Problems;
use crate::recipe::{Recipe, Schedule, TrainSection, WsdSchedule};

pub(super) fn check(recipe: &Recipe, problems: &mut Problems) {
    let train = &recipe.train;
    let key = |name: &str| format!("train.schedule.{}.{name}", train.schedule.name());
    let (steps, ratio) = train.schedule.warmup_keys();
    problems.exclusive(&[
        (&key("warmup_steps"), steps.is_some()),
        (&key("warmup_ratio"), ratio.is_some()),
    ]);
    if let (Some(steps), Some(max_steps)) = (steps, train.max_steps)
        && steps > max_steps
    {
        let wanted = format!("at most the `train.max_steps` of `{max_steps}`");
        problems.add(&key("warmup_steps"), format!("`{steps}`"), wanted);
    }
    if let Some(ratio) = ratio {
        problems.below_one(&key("warmup_ratio"), ratio);
    }
    match &train.schedule {
        Schedule::Cosine(cosine) => {
            ratio_of_peak(&key("min_lr_ratio"), cosine.min_lr_ratio, problems)
        }
        Schedule::CosineWithRestarts(cosine) => {
            problems.at_least_one(&key("num_cycles"), Some(cosine.num_cycles));
        }
        Schedule::Polynomial(polynomial) => {
            problems.above_zero(&key("power"), polynomial.power);
            let (end, peak) = (polynomial.lr_end, recipe.learning_rate());
            let wanted = format!("0 or more and below the learning rate of `{peak}`");
            problems.require((0.0..peak).contains(&end), &key("lr_end"), end, &wanted);
        }
        Schedule::InverseSqrt(root) => problems.at_least_one(&key("timescale"), root.timescale),
        Schedule::Wsd(wsd) => check_wsd(wsd, train, problems),
        Schedule::Linear(_) | Schedule::Constant(_) => {}
    }
}

fn ratio_of_peak(key: &str, ratio: f64, problems: &mut Problems) {
    problems.require((0.0..=1.0).contains(&ratio), key, ratio, "from 0 to 1");
}

fn check_wsd(wsd: &WsdSchedule, train: &TrainSection, problems: &mut Problems) {
    let key = |name: &str| format!("train.schedule.wsd.{name}");
    ratio_of_peak(&key("min_lr_ratio"), wsd.min_lr_ratio, problems);
    problems.exclusive(&[
        (&key("decay_steps"), wsd.decay_steps.is_some()),
        (&key("decay_ratio"), wsd.decay_ratio.is_some()),
    ]);
    problems.at_least_one(&key("decay_steps"), wsd.decay_steps);
    if let Some(ratio) = wsd.decay_ratio {
        let holds = ratio > 0.0 && ratio <= 1.0;
        problems.require(holds, &key("decay_ratio"), ratio, "above 0 and at most 1");
    }
    let both = wsd.warmup_ratio.unwrap_or(0.0) + wsd.decay_ratio.unwrap_or(0.0);
    if both > 1.0 {
        let wanted = "at most 1 together with `warmup_ratio`";
        problems.add(&key("decay_ratio"), format!("`{}`", wsd.decay_ratio.unwrap_or(0.0)), wanted);
    }
    if let Some(max_steps) = train.max_steps {
        let warmup = train.schedule.warmup().steps(max_steps);
        let decay = wsd.decay().steps(max_steps);
        if warmup <= max_steps && warmup.saturating_add(decay) > max_steps && both <= 1.0 {
            let wanted = format!(
                "at most `{}`: the warm-up takes `{warmup}` of `{max_steps}` steps",
                max_steps - warmup
            );
            problems.add(&key("decay_steps"), format!("`{decay}`"), wanted);
        }
    }
}
