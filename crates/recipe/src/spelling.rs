//! What a mistyped name may have meant.

/// Names that other tools use for our keys.
const SYNONYMS: [(&str, &str); 26] = [
    ("lr", "learning_rate"),
    ("epochs", "num_epochs"),
    ("num_train_epochs", "num_epochs"),
    ("steps", "max_steps"),
    ("per_device_train_batch_size", "micro_batch_size"),
    ("clip_norm", "max_grad_norm"),
    ("rank", "r"),
    ("lora_r", "r"),
    ("alpha", "lora_alpha"),
    ("dropout", "lora_dropout"),
    ("targets", "target_modules"),
    ("max_length", "max_tokens"),
    ("max_seq_length", "max_tokens"),
    ("chat_template", "template"),
    ("val", "validation"),
    ("betas", "beta1"),
    ("adam_beta1", "beta1"),
    ("adam_beta2", "beta2"),
    ("adam_epsilon", "epsilon"),
    ("eps", "epsilon"),
    ("packing_strategy", "packing"),
    ("padding_free", "batching"),
    ("gradient_checkpointing", "recompute"),
    ("bf16", "precision"),
    ("label_smoothing_factor", "label_smoothing"),
    ("loss_watchdog", "loss_watchdog_threshold"),
];

/// The candidate that was most likely meant: another tool's name for it, or close by letters.
///
/// Close is at most one edit for every three letters begun, and some letter kept; equal distances
/// go to the first candidate.
pub(crate) fn closest<'a>(
    found: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = SYNONYMS.iter().find(|(other, _)| *other == found).map(|(_, ours)| *ours);
    let mut best = None;
    for candidate in candidates {
        if wanted == Some(candidate) {
            return Some(candidate);
        }
        // The limit also bounds the work: a name as long as a file is not compared.
        let letters = candidate.chars().count();
        let limit = letters.div_ceil(3).min(letters.saturating_sub(1));
        if found.len() > 4 * (candidate.len() + limit) {
            continue;
        }
        let distance = edit_distance(found, candidate);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Number of letters put in, left out, replaced or swapped with their neighbour; case counts for
/// nothing.
///
/// Optimal string alignment: Damerau 1964 with each letter edited once.
fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().flat_map(char::to_lowercase).collect();
    let right: Vec<char> = right.chars().flat_map(char::to_lowercase).collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let replaced = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            let swapped =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("lroa", "lora"), 1);
        assert_eq!(edit_distance("lerning_rate", "learning_rate"), 1);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("Seed", "seed"), 0);
    }

    #[test]
    fn far_names_are_not_suggested() {
        let candidates = ["model", "seed", "output"];
        assert_eq!(closest("modle", candidates), Some("model"));
        assert_eq!(closest("wandb_project", candidates), None);
        assert_eq!(closest("x", ["r"]), None);
        assert_eq!(closest(&"x".repeat(1 << 20), candidates), None);
    }

    #[test]
    fn names_of_other_tools_are_known() {
        assert_eq!(closest("lr", ["learning_rate", "r"]), Some("learning_rate"));
        assert_eq!(closest("rank", ["r", "lora_alpha"]), Some("r"));
    }
}
