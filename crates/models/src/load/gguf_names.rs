//! GGUF's tensor names in Hugging Face's naming, and the order of its query and key rows.

/// Hugging Face's name of a GGUF tensor; `None` for what is no weight.
///
/// A name that is not known stays as it is, so that the check for unexpected tensors shows it.
pub(super) fn hf_name(name: &str) -> Option<String> {
    let known = match name {
        "rope_freqs.weight" => return None,
        "token_embd.weight" => "model.embed_tokens.weight",
        "output_norm.weight" => "model.norm.weight",
        "output.weight" => "lm_head.weight",
        _ => return Some(block_name(name).unwrap_or_else(|| name.to_owned())),
    };
    Some(known.to_owned())
}

fn block_name(name: &str) -> Option<String> {
    let (layer_idx, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    layer_idx.parse::<u32>().ok()?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer_idx}.{part}.{kind}"))
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
        let hf = |name| hf_name(name).unwrap();
        assert_eq!(hf("blk.3.attn_output.weight"), "model.layers.3.self_attn.o_proj.weight");
        assert_eq!(hf("blk.0.attn_q.bias"), "model.layers.0.self_attn.q_proj.bias");
        assert_eq!(hf("output.weight"), "lm_head.weight");
        assert_eq!(hf("blk.x.attn_q.weight"), "blk.x.attn_q.weight");
        assert_eq!(hf_name("rope_freqs.weight"), None);
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
