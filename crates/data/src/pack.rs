//! Several samples in one row: which go together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::loader::LoaderError;

/// Rows of at most `max_tokens`, each a list of indices into `lengths`, by best-fit decreasing.
///
/// The longest sample comes first, of equal ones that with the lower index. Each goes into the row
/// with the least room that still holds it, of equal ones into the one that has had that room
/// longest, else into a new row. Rows stand in the order in which they were begun. Ding et al. 2024
/// (arXiv:2404.10830) pack training data so.
///
/// With OPT the fewest rows possible, there are at most 11/9 · OPT + 4 (Johnson et al. 1974,
/// doi:10.1137/0203025). Takes O(n log n) steps, and the result depends on the lengths alone.
///
/// # Errors
/// [`LoaderError::LongSample`] if a sample fits into no row.
pub fn pack(lengths: &[usize], max_tokens: usize) -> Result<Vec<Vec<usize>>, LoaderError> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // The sort is stable, so that equal lengths stay in the order of their indices.
    order.sort_by_key(|&index| Reverse(lengths[index]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut with_room: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for index in order {
        let tokens = lengths[index];
        if tokens > max_tokens {
            return Err(LoaderError::LongSample { index, tokens, max_tokens });
        }
        let (row, room) = best_fit(&mut with_room, tokens).unwrap_or_else(|| {
            rows.push(Vec::new());
            (rows.len() - 1, max_tokens)
        });
        rows[row].push(index);
        with_room.entry(room - tokens).or_default().push_back(row);
    }
    Ok(rows)
}

/// Takes out the row with the least room of at least `tokens`; gives it and its room.
fn best_fit(
    with_room: &mut BTreeMap<usize, VecDeque<usize>>,
    tokens: usize,
) -> Option<(usize, usize)> {
    let (&room, rows) = with_room.range_mut(tokens..).next()?;
    let row = rows.pop_front()?;
    if rows.is_empty() {
        with_room.remove(&room);
    }
    Some((row, room))
}

#[cfg(test)]
mod tests;
