//! Every public operation against the same mathematics in plain tensor operations, whose gradients
//! are Burn's own, against finite differences, and against the laws it must obey.

mod attention;
mod comparison;
mod few;
mod gated;
mod layer_norm;
mod linear;
mod loss;
mod rms_norm;
mod rope;
