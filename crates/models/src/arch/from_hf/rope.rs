//! Rotary settings: `rope_parameters` as transformers 5 writes them, or `rope_theta` and
//! `rope_scaling` as before.

use super::super::keys::{Keys, unsupported};
use super::super::rope::{RopeScaling, RopeSpec, Yarn};
use super::super::{Arch, Family, out_of_range, positive};
use crate::error::ModelError;

/// The rotation of blocks that see everything.
pub(super) fn full(arch: &Arch, keys: Keys<'_>, theta: f64) -> Result<RopeSpec, ModelError> {
    let settings = match keys.inner("rope_parameters")? {
        // One set of settings for each kind of block.
        Some(nested) if nested.get("full_attention").is_some() => nested.inner("full_attention")?,
        Some(plain) => Some(plain),
        None => keys.inner("rope_scaling")?,
    };
    spec(arch, keys, settings, keys.number("rope_theta")?.unwrap_or(theta))
}

/// The rotation of blocks with a window.
pub(super) fn local(arch: &Arch, keys: Keys<'_>) -> Result<RopeSpec, ModelError> {
    let settings = match keys.inner("rope_parameters")? {
        Some(nested) => nested.inner("sliding_attention")?,
        None => None,
    };
    spec(arch, keys, settings, keys.number("rope_local_base_freq")?.unwrap_or(10_000.0))
}

/// `theta` is the base where `settings` state none.
fn spec(
    arch: &Arch,
    keys: Keys<'_>,
    settings: Option<Keys<'_>>,
    theta: f64,
) -> Result<RopeSpec, ModelError> {
    let stated = settings.map_or(Ok(None), |settings| settings.number("rope_theta"))?;
    let partial = settings.map_or(Ok(None), |it| it.number("partial_rotary_factor"))?;
    let partial = match partial {
        Some(partial) => partial,
        None => keys.number("partial_rotary_factor")?.unwrap_or(1.0),
    };
    if !(partial > 0.0 && partial <= 1.0) {
        let wanted = "a number above 0 and up to 1";
        return Err(out_of_range("partial_rotary_factor", partial, wanted));
    }
    let scaling = settings.map_or(Ok(RopeScaling::None), |it| scaling(arch, keys, it))?;
    let dims = (arch.head_dim as f64 * partial) as usize;
    Ok(RopeSpec { theta: stated.unwrap_or(theta), dims, scaling })
}

fn scaling(arch: &Arch, keys: Keys<'_>, it: Keys<'_>) -> Result<RopeScaling, ModelError> {
    let Some(kind) = it.get("rope_type").or_else(|| it.get("type")) else {
        return Ok(RopeScaling::None);
    };
    // Phi-3 has it outside, where it wins.
    let original = match keys.whole("original_max_position_embeddings")? {
        Some(original) => Some(original),
        None => it.whole("original_max_position_embeddings")?,
    };
    match kind.as_str() {
        Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: it.required_number("factor")? }),
        Some("dynamic") => Ok(RopeScaling::Dynamic {
            factor: it.required_number("factor")?,
            original_max_positions: arch.max_positions,
        }),
        // Early Phi-3 configs say `su` and `yarn` and mean this.
        Some("longrope" | "su") => longrope(arch, it, original),
        Some("yarn") if arch.family == Family::Phi3 => longrope(arch, it, original),
        Some("yarn") => yarn(arch, it, original),
        Some("llama3") => Ok(RopeScaling::Llama3 {
            factor: it.required_number("factor")?,
            low_freq_factor: it.required_number("low_freq_factor")?,
            high_freq_factor: it.required_number("high_freq_factor")?,
            original_max_positions: it.required("original_max_position_embeddings")?,
        }),
        _ => {
            let wanted = "`default`, `linear`, `dynamic`, `yarn`, `llama3` or `longrope`";
            Err(unsupported("rope_type", kind, wanted))
        }
    }
}

fn yarn(arch: &Arch, it: Keys<'_>, original: Option<usize>) -> Result<RopeScaling, ModelError> {
    let original = original.unwrap_or(arch.max_positions);
    let factor = match it.number("factor")? {
        Some(factor) => factor,
        None => arch.max_positions as f64 / original as f64,
    };
    positive("rope_scaling.factor", factor)?;
    let attention_factor = match it.number("attention_factor")? {
        Some(stated) => stated,
        None => match (it.nonzero("mscale")?, it.nonzero("mscale_all_dim")?) {
            (Some(one), Some(all)) => Yarn::magnitude(factor, one) / Yarn::magnitude(factor, all),
            _ => Yarn::magnitude(factor, 1.0),
        },
    };
    Ok(RopeScaling::Yarn(Yarn {
        factor,
        original_max_positions: original,
        beta_fast: it.nonzero("beta_fast")?.unwrap_or(32.0),
        beta_slow: it.nonzero("beta_slow")?.unwrap_or(1.0),
        attention_factor,
        truncate: it.flag("truncate")?.unwrap_or(true),
    }))
}

fn longrope(arch: &Arch, it: Keys<'_>, original: Option<usize>) -> Result<RopeScaling, ModelError> {
    let original = original.unwrap_or(arch.max_positions);
    let factor = match it.number("factor")? {
        Some(factor) => factor,
        None => arch.max_positions as f64 / original as f64,
    };
    let attention_factor = match it.number("attention_factor")? {
        Some(stated) => stated,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
    };
    Ok(RopeScaling::LongRope {
        short_factor: it.numbers("short_factor")?,
        long_factor: it.numbers("long_factor")?,
        original_max_positions: original,
        attention_factor,
    })
}
