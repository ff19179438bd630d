//! What the runtimes ask of the generator before they compile anything.

/// Device features that the generator can lower.
pub mod lowered_features {
    use cubecl_core::ir::DeviceProperties;

    /// The kind of device a set of features belongs to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum GpuTarget {
        /// An NVIDIA device.
        Nvptx,
    }

    /// Takes away what the generator cannot lower; nothing, since it is never the one chosen.
    ///
    /// The runtime calls this only when the LLVM generator is the default, and then the first
    /// kernel fails with a message of its own.
    pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
}
