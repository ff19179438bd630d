//! Keys and values of the tokens a generation has seen.

use burn::tensor::Tensor;

/// One layer's keys and values, `[batch, seen, kv_heads, head_dim]` each.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    held: Option<(Tensor<4>, Tensor<4>)>,
}

impl LayerCache {
    /// Adds the new tokens' keys and values and returns all of them.
    pub(crate) fn extend(&mut self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let (k, v) = match self.held.take() {
            Some((old_k, old_v)) => {
                (Tensor::cat(vec![old_k, k], 1), Tensor::cat(vec![old_v, v], 1))
            }
            None => (k, v),
        };
        self.held = Some((k.clone(), v.clone()));
        (k, v)
    }
}

/// The caches of all layers and the number of tokens they hold.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) seen: usize,
}

impl Cache {
    /// An empty cache for `n_layers` layers.
    pub fn new(n_layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); n_layers], seen: 0 }
    }

    /// Tokens held.
    pub fn seen(&self) -> usize {
        self.seen
    }
}
