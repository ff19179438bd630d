//! Gradients of every operation, against plain tensor operations and against finite differences.

mod plain;

mod differences;
mod reference;
