//! Parts of a decoder that are not trained.

use burn::module::Module;

use super::{Backbone, Decoder};

impl Decoder {
    /// The same decoder with its first `blocks` blocks, and if asked for its embeddings of tokens
    /// and positions, frozen. A head that is tied to the embeddings is frozen with them.
    #[must_use]
    pub fn freezing(self, embeddings: bool, blocks: usize) -> Self {
        let Backbone { embed_tokens, positions, layers, norm } = self.model;
        let (embed_tokens, positions) = match embeddings {
            true => (
                embed_tokens.set_require_grad(false),
                positions.map(|it| it.set_require_grad(false)),
            ),
            false => (embed_tokens, positions),
        };
        let layers = layers.into_iter().enumerate();
        let layers = layers.map(|(index, block)| match index < blocks {
            true => block.set_require_grad(false),
            false => block,
        });
        let layers = layers.collect();
        Self { model: Backbone { embed_tokens, positions, layers, norm }, ..self }
    }
}
