//! Dynamic loss scaling, for products of f16.

use serde::{Deserialize, Serialize};

/// What the loss is multiplied by before the backward pass, so that small gradients survive f16.
///
/// Micikevicius et al. 2017 (arXiv:1710.03740), §3.2, with the rule of `torch.amp.GradScaler`: a
/// step whose gradient is not finite is skipped and halves the scale, and so many finite steps in
/// a row double it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// The factor; a power of two.
    pub scale: f64,
    /// Finite steps since it last changed.
    pub good_steps: u32,
}

/// Finite steps in a row after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;
/// Where the scale starts: GradScaler's 2¹⁶.
const FIRST: f64 = 65_536.0;
/// Below this nothing is gained any more: the numbers themselves overflow.
const LEAST: f64 = 1.0;
const MOST: f64 = 16_777_216.0;

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: FIRST, good_steps: 0 }
    }
}

impl LossScale {
    /// Takes in whether a step's gradient was finite. Returns what was done about one that was
    /// not; `None` for one that was, and for one that no smaller scale would mend.
    pub(crate) fn take(&mut self, finite: bool) -> Option<String> {
        if finite {
            self.good_steps += 1;
            if self.good_steps >= GROWTH_INTERVAL {
                self.scale = (self.scale * 2.0).min(MOST);
                self.good_steps = 0;
            }
            return None;
        }
        self.good_steps = 0;
        if self.scale <= LEAST {
            return None;
        }
        self.scale = (self.scale / 2.0).max(LEAST);
        Some(format!(
            "the gradient overflowed f16; the update was skipped, and losses are scaled by {} \
             from now on",
            self.scale
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_falls_to_its_floor_and_then_excuses_nothing() {
        let mut scale = LossScale::default();
        for _ in 0..16 {
            assert!(scale.take(false).is_some());
        }
        assert_eq!(scale.scale, 1.0);
        assert_eq!(scale.take(false), None);
        for _ in 0..2000 {
            assert_eq!(scale.take(true), None);
        }
        assert_eq!(scale, LossScale { scale: 2.0, good_steps: 0 });
    }
}
