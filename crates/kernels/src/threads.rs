//! The threads that operations on the processor are spread over.

/// Runs `work` on one of those threads.
///
/// A program that computes on the processor gains by calling its work this way: an operation then
/// starts on the thread that asked for it, instead of waking others and waiting for them. Without
/// a backend for the processor `work` runs where it is called.
pub fn on_compute_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    return rayon::scope(|_| work());
    #[cfg(not(feature = "flex"))]
    work()
}

#[cfg(test)]
mod tests {
    use super::on_compute_threads;

    #[test]
    fn the_result_comes_back() {
        assert_eq!(on_compute_threads(|| (1..=4).sum::<i32>()), 10);
    }
}
