use proptest::prelude::*;

use super::*;

/// The longest row of the packed layouts, in tokens.
const MAX_TOKENS: usize = 16;

/// `n` samples of 2 to 16 tokens.
fn samples(n: usize) -> Vec<Sample> {
    let sample = |index: usize| {
        let tokens = vec![1; 2 + index * 7 % 15];
        let target = vec![true; tokens.len()];
        Sample { tokens, target, truncated: false }
    };
    (0..n).map(sample).collect()
}

fn layouts() -> impl Strategy<Value = Layout> {
    let packed = Layout::Packed { max_tokens: MAX_TOKENS };
    prop::sample::select(vec![Layout::Padded, Layout::PaddingFree, packed])
}

fn orders() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::Given, Order::Shuffled, Order::ByLength])
}

prop_compose! {
    fn options()(
        batch in 1usize..9, micro in 1usize..9, order in orders(), layout in layouts(),
    ) -> LoaderOptions {
        LoaderOptions { batch, micro, seed: 5, epochs: None, order, layout }
    }
}

fn loader(n: usize, batch: usize, micro: usize, epochs: Option<u64>) -> Loader {
    let options = LoaderOptions { batch, micro, seed: 5, epochs, ..LoaderOptions::default() };
    Loader::new(samples(n), options).unwrap()
}

fn flat(step: Vec<MicroBatch>) -> Vec<usize> {
    step.into_iter().flatten().flatten().collect()
}

proptest! {
    #[test]
    fn seeking_equals_running_on(n in 1usize..40, options in options(), steps in 0usize..60) {
        let mut straight = Loader::new(samples(n), options).unwrap();
        for _ in 0..steps {
            straight.next();
        }
        let mut sought = Loader::new(samples(n), options).unwrap();
        sought.seek(straight.cursor()).unwrap();
        for _ in 0..20 {
            prop_assert_eq!(straight.next(), sought.next());
            prop_assert_eq!(straight.cursor(), sought.cursor());
        }
    }

    #[test]
    fn every_epoch_gives_every_sample_once_in_equally_many_steps(
        n in 1usize..60, options in options(),
    ) {
        let mut loader = Loader::new(samples(n), options).unwrap();
        for epoch in 0..3 {
            let mut seen = Vec::new();
            for step in 0..loader.steps_per_epoch() {
                prop_assert_eq!(loader.cursor(), Cursor { epoch, row: step * options.batch });
                seen.extend(flat(loader.next().unwrap()));
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
        prop_assert_eq!(loader.cursor(), Cursor { epoch: 3, row: 0 });
    }

    #[test]
    fn a_layout_says_how_many_samples_share_a_row(n in 1usize..60, options in options()) {
        let loader = Loader::new(samples(n), LoaderOptions { epochs: Some(2), ..options }).unwrap();
        let lengths = lengths(loader.samples());
        let (rows, batch) = (loader.rows_per_epoch(), options.batch);
        let steps = loader.steps_per_epoch();
        for (step, micro_batches) in loader.enumerate() {
            let left = rows - step % steps * batch;
            let counted: usize = match options.layout {
                Layout::PaddingFree => micro_batches.iter().flatten().map(Vec::len).sum(),
                _ => micro_batches.iter().map(Vec::len).sum(),
            };
            prop_assert_eq!(counted, left.min(batch));
            for micro in micro_batches {
                match options.layout {
                    Layout::Padded => prop_assert!(micro.iter().all(|row| row.len() == 1)),
                    Layout::PaddingFree => prop_assert_eq!(micro.len(), 1),
                    Layout::Packed { max_tokens } => for row in &micro {
                        let tokens: usize = row.iter().map(|&index| lengths[index]).sum();
                        prop_assert!(tokens <= max_tokens && !row.is_empty());
                    },
                }
            }
        }
    }
}

#[test]
fn a_short_last_step_is_kept_and_cut_into_micro_batches() {
    let mut loader = loader(5, 4, 3, Some(1));
    let sizes = |step: Vec<MicroBatch>| step.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(loader.next().unwrap()), [3, 1]);
    assert_eq!(sizes(loader.next().unwrap()), [1]);
    assert_eq!(loader.next(), None);
}

#[test]
fn a_batch_larger_than_the_data_gives_one_step_of_all_rows() {
    let mut loader = loader(5, 8, 8, None);
    assert_eq!(loader.steps_per_epoch(), 1);
    for _ in 0..3 {
        assert_eq!(loader.next().unwrap().concat().len(), 5);
    }
}

#[test]
fn orders_differ_from_epoch_to_epoch_and_packed_rows_do_not() {
    for layout in [Layout::Padded, Layout::Packed { max_tokens: MAX_TOKENS }] {
        for order in [Order::Shuffled, Order::ByLength] {
            let options =
                LoaderOptions { batch: 99, micro: 99, seed: 5, epochs: None, order, layout };
            let mut loader = Loader::new(samples(60), options).unwrap();
            let [mut first, mut second] = [(); 2].map(|()| loader.next().unwrap().concat());
            assert_ne!(first, second, "{order:?} {layout:?}");
            first.sort_unstable();
            second.sort_unstable();
            assert_eq!(first, second, "{order:?} {layout:?}");
        }
    }
}

#[test]
fn rows_of_like_length_share_a_step_and_the_longest_comes_first() {
    let options = LoaderOptions { batch: 4, micro: 4, seed: 5, ..LoaderOptions::default() };
    let spread = |order| {
        let options = LoaderOptions { order, epochs: Some(1), ..options };
        let loader = Loader::new(samples(64), options).unwrap();
        let lengths = lengths(loader.samples());
        let steps: Vec<_> =
            loader.map(|step| flat(step).into_iter().map(|it| lengths[it])).collect();
        let spread = |step: &Vec<usize>| step.iter().max().unwrap() - step.iter().min().unwrap();
        let steps: Vec<Vec<usize>> = steps.into_iter().map(Iterator::collect).collect();
        (steps.iter().map(spread).sum::<usize>(), steps[0][0])
    };
    let (grouped, first) = spread(Order::ByLength);
    assert!(2 * grouped < spread(Order::Shuffled).0, "{grouped}");
    assert_eq!(first, 16);
}

#[test]
fn a_foreign_cursor_is_refused() {
    let mut loader = loader(10, 4, 2, Some(2));
    for (epoch, row) in [(0, 3), (0, 12), (2, 4), (3, 0)] {
        assert!(loader.seek(Cursor { epoch, row }).is_err(), "{epoch} {row}");
    }
    loader.seek(Cursor { epoch: 2, row: 0 }).unwrap();
    assert_eq!(loader.next(), None);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let options = LoaderOptions::default();
    assert_eq!(Loader::new(vec![], options).unwrap_err(), LoaderError::NoSamples);
    let zero = |options| Loader::new(samples(1), options).unwrap_err();
    assert_eq!(zero(LoaderOptions { batch: 0, ..options }), LoaderError::Zero { name: "batch" });
    assert_eq!(zero(LoaderOptions { micro: 0, ..options }), LoaderError::Zero { name: "micro" });
    let layout = Layout::Packed { max_tokens: 1 };
    let error = zero(LoaderOptions { layout, ..options });
    assert_eq!(error, LoaderError::LongSample { index: 0, tokens: 2, max_tokens: 1 });
}
