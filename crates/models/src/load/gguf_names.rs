//! GGUF's tensor names as places in a decoder, and the order of its query and key rows.

use crate::arch::{Family, Mlp, NormPlace, Part, Slot};

/// Hugging Face's name of a GGUF tensor; `None` for what is no weight.
///
/// A name that is not known stays as it is, so that the check for unexpected tensors shows it.
pub(super) fn hf_name(family: Family, name: &str) -> Option<String> {
    const TABLES: [&str; 3] =
        ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];
    if TABLES.contains(&name) {
        return None;
    }
    let known =
        name.rsplit_once('.').and_then(|(module, kind)| Some((slot(family, module)?, kind)));
    match known {
        None => Some(name.to_owned()),
        Some((slot, kind)) => Some(format!("{}.{kind}", family.name(slot))),
    }
}

fn slot(family: Family, module: &str) -> Option<Slot> {
    match module {
        "token_embd" => return Some(Slot::Embeddings),
        "output_norm" => return Some(Slot::FinalNorm),
        "output" => return Some(Slot::Head),
        _ => {}
    }
    let (index, part) = module.strip_prefix("blk.")?.split_once('.')?;
    let index = index.parse::<u32>().ok()? as usize;
    let fused = family.wiring().fused;
    let around = family.wiring().place == NormPlace::Around;
    let part = match part {
        "attn_norm" => Part::AttentionNorm,
        "post_attention_norm" if around => Part::AttentionPostNorm,
        "ffn_norm" => Part::MlpNorm,
        "post_ffw_norm" if around => Part::MlpPostNorm,
        "attn_q" if !fused => Part::Query,
        "attn_k" if !fused => Part::Key,
        "attn_v" if !fused => Part::Value,
        "attn_qkv" if fused => Part::QueryKeyValue,
        "attn_q_norm" => Part::QueryNorm,
        "attn_k_norm" => Part::KeyNorm,
        "attn_output" => Part::Output,
        "ffn_gate" if !fused => Part::Mlp(Mlp::Gate),
        "ffn_up" if fused => Part::Mlp(Mlp::GateUp),
        "ffn_up" => Part::Mlp(Mlp::Up),
        "ffn_down" => Part::Mlp(Mlp::Down),
        _ => return None,
    };
    Some(Slot::Block(index, part))
}

/// Rows of a query or key projection back from the order that Llama's have in GGUF.
///
/// There GGUF rotates neighbouring rows together, Hugging Face row `i` with row `i + head_dim / 2`:
/// within a head, GGUF's row `2i + j` is Hugging Face's row `j · head_dim / 2 + i`. `values` holds
/// `heads` heads of equal size, row by row; a bias has rows of one number.
pub(super) fn unpermute(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let row = values.len() / (heads * head_dim);
    let mut ordered = Vec::with_capacity(values.len());
    for head in 0..heads {
        for j in 0..2 {
            for i in 0..half {
                let from = (head * head_dim + 2 * i + j) * row;
                ordered.extend_from_slice(&values[from..from + row]);
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_hugging_faces() {
        let hf = |name| hf_name(Family::Llama, name).unwrap();
        assert_eq!(hf("blk.3.attn_output.weight"), "model.layers.3.self_attn.o_proj.weight");
        assert_eq!(hf("blk.0.attn_q.bias"), "model.layers.0.self_attn.q_proj.bias");
        assert_eq!(hf("output.weight"), "lm_head.weight");
        assert_eq!(hf("blk.x.attn_q.weight"), "blk.x.attn_q.weight");
        assert_eq!(hf_name(Family::Llama, "rope_freqs.weight"), None);
    }

    #[test]
    fn norms_and_fused_projections_have_names_by_family() {
        let norm = "blk.1.ffn_norm.weight";
        let layer = |name: &str| Some(format!("model.layers.1.{name}.weight"));
        assert_eq!(hf_name(Family::Llama, norm), layer("post_attention_layernorm"));
        assert_eq!(hf_name(Family::Gemma2, norm), layer("pre_feedforward_layernorm"));
        let after = "blk.1.post_attention_norm.weight";
        assert_eq!(hf_name(Family::Gemma2, after), layer("post_attention_layernorm"));
        assert_eq!(hf_name(Family::Llama, after).as_deref(), Some(after));
        assert_eq!(hf_name(Family::Phi3, "blk.1.ffn_up.weight"), layer("mlp.gate_up_proj"));
        assert_eq!(hf_name(Family::Llama, "blk.1.ffn_up.weight"), layer("mlp.up_proj"));
    }

    #[test]
    fn unpermute_undoes_the_permutation_of_two_heads() {
        let (heads, head_dim, row) = (2, 6, 3);
        let original: Vec<f32> = (0..heads * head_dim * row).map(|it| it as f32).collect();
        let mut stored = vec![0.0; original.len()];
        for head in 0..heads {
            for j in 0..2 {
                for i in 0..head_dim / 2 {
                    let hf = (head * head_dim + j * head_dim / 2 + i) * row;
                    let gguf = (head * head_dim + i * 2 + j) * row;
                    stored[gguf..gguf + row].copy_from_slice(&original[hf..hf + row]);
                }
            }
        }
        assert_ne!(stored, original);
        assert_eq!(unpermute(&stored, heads, head_dim), original);
    }
}
