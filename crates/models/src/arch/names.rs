//! What the weights of each family are called in a Hugging Face folder.

use super::Family;

/// A weight's place in a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Token embeddings.
    Embeddings,
    /// Embeddings of learned positions.
    Positions,
    /// The norm after the last block.
    FinalNorm,
    /// The output projection.
    Head,
    /// A weight of a block.
    Block(usize, Part),
}

/// A weight's place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The norm of what goes into attention.
    AttentionNorm,
    /// The norm of what comes out of attention.
    AttentionPostNorm,
    /// The norm of what goes into the feed-forward layer.
    MlpNorm,
    /// The norm of what comes out of the feed-forward layer.
    MlpPostNorm,
    /// To the queries.
    Query,
    /// To the keys.
    Key,
    /// To the values.
    Value,
    /// To queries, keys and values at once.
    QueryKeyValue,
    /// From the heads back to the residual stream.
    Output,
    /// The norm of queries.
    QueryNorm,
    /// The norm of keys.
    KeyNorm,
    /// The scores of the experts.
    Router,
    /// A projection of the feed-forward layer.
    Mlp(Mlp),
    /// A projection of an expert.
    Expert(usize, Mlp),
}

/// A projection of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mlp {
    /// To the gate.
    Gate,
    /// To what is gated, or to what is bent where there is no gate.
    Up,
    /// To gate and gated at once.
    GateUp,
    /// Back to the residual stream.
    Down,
}

/// The names that differ between families.
struct Names {
    backbone: &'static str,
    embeddings: &'static str,
    final_norm: &'static str,
    blocks: &'static str,
    /// Of [`Part::AttentionNorm`], [`Part::AttentionPostNorm`], [`Part::MlpNorm`] and
    /// [`Part::MlpPostNorm`]; a family has no more than its wiring says.
    norms: [&'static str; 4],
    query_key_value: &'static str,
    output: &'static str,
    experts: &'static str,
    router: &'static str,
    /// Of gate, up and down.
    expert: [&'static str; 3],
    /// Of up and down.
    mlp: [&'static str; 2],
}

const LLAMA: Names = Names {
    backbone: "model",
    embeddings: "embed_tokens",
    final_norm: "norm",
    blocks: "layers",
    norms: ["input_layernorm", "", "post_attention_layernorm", ""],
    query_key_value: "self_attn.qkv_proj",
    output: "self_attn.o_proj",
    experts: "mlp.experts",
    router: "mlp.gate",
    expert: ["gate_proj", "up_proj", "down_proj"],
    mlp: ["mlp.up_proj", "mlp.down_proj"],
};

const GEMMA: Names = Names {
    norms: [
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ],
    ..LLAMA
};

const OLMO2: Names =
    Names { norms: ["", "post_attention_layernorm", "", "post_feedforward_layernorm"], ..LLAMA };

const MIXTRAL: Names = Names {
    experts: "block_sparse_moe.experts",
    router: "block_sparse_moe.gate",
    expert: ["w1", "w3", "w2"],
    ..LLAMA
};

const GPT2: Names = Names {
    backbone: "transformer",
    embeddings: "wte",
    final_norm: "ln_f",
    blocks: "h",
    norms: ["ln_1", "", "ln_2", ""],
    query_key_value: "attn.c_attn",
    output: "attn.c_proj",
    mlp: ["mlp.c_fc", "mlp.c_proj"],
    ..LLAMA
};

impl Family {
    fn table(self) -> &'static Names {
        match self {
            Self::Gemma2 | Self::Gemma3 => &GEMMA,
            Self::Olmo2 => &OLMO2,
            Self::Mixtral => &MIXTRAL,
            Self::Gpt2 => &GPT2,
            _ => &LLAMA,
        }
    }

    /// What stands before every name but the head's; checkpoints of the bare model lack it.
    pub(crate) fn backbone(self) -> &'static str {
        self.table().backbone
    }

    /// Hugging Face's name of a module, without `.weight` or `.bias`.
    pub fn name(self, slot: Slot) -> String {
        let names = self.table();
        let backbone = names.backbone;
        match slot {
            Slot::Head => "lm_head".to_owned(),
            Slot::Embeddings => format!("{backbone}.{}", names.embeddings),
            Slot::Positions => format!("{backbone}.wpe"),
            Slot::FinalNorm => format!("{backbone}.{}", names.final_norm),
            Slot::Block(index, part) => {
                format!("{backbone}.{}.{index}.{}", names.blocks, names.part(part))
            }
        }
    }
}

impl Names {
    fn part(&self, part: Part) -> String {
        let [attention, attention_post, mlp, mlp_post] = self.norms;
        let fixed = match part {
            Part::AttentionNorm => attention,
            Part::AttentionPostNorm => attention_post,
            Part::MlpNorm => mlp,
            Part::MlpPostNorm => mlp_post,
            Part::Query => "self_attn.q_proj",
            Part::Key => "self_attn.k_proj",
            Part::Value => "self_attn.v_proj",
            Part::QueryKeyValue => self.query_key_value,
            Part::Output => self.output,
            Part::QueryNorm => "self_attn.q_norm",
            Part::KeyNorm => "self_attn.k_norm",
            Part::Router => self.router,
            Part::Mlp(Mlp::Gate) => "mlp.gate_proj",
            Part::Mlp(Mlp::GateUp) => "mlp.gate_up_proj",
            Part::Mlp(Mlp::Up) => self.mlp[0],
            Part::Mlp(Mlp::Down) => self.mlp[1],
            Part::Expert(index, mlp) => {
                let [gate, up, down] = self.expert;
                let name = match mlp {
                    Mlp::Gate => gate,
                    Mlp::Up => up,
                    Mlp::GateUp => "gate_up_proj",
                    Mlp::Down => down,
                };
                return format!("{}.{index}.{name}", self.experts);
            }
        };
        fixed.to_owned()
    }
}
