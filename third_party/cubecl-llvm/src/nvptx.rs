//! What the CUDA runtime knows of PTX.

/// Versions of the PTX language.
pub mod ptx_version {
    use core::fmt;

    /// A PTX version as `10 · major + minor`.
    ///
    /// No value of it is ever made here: see [`PtxVersion::for_driver`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct PtxVersion(u32);

    impl PtxVersion {
        /// The newest version a driver loads. Always `None`: without a generator there is no PTX
        /// to choose a version for, and the runtime then leaves it out of its cache's name.
        pub fn for_driver(_driver: i32) -> Option<Self> {
            None
        }
    }

    impl fmt::Display for PtxVersion {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "ptx{}", self.0)
        }
    }
}
