//! `LCS`: the longest common subsequence of two values.

use crate::limits::RESP_LCS_TABLE_BYTES_MAX;

use super::{Call, Failure, Outcome};

/// A run that both values have: where it begins in each, and its length.
struct Run {
    left: usize,
    right: usize,
    len: usize,
}

/// Lengths of the common subsequences of all pairs of beginnings.
struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(left: &[u8], right: &[u8]) -> Result<Self, Failure> {
        let width = right.len() + 1;
        let cells = (left.len() + 1)
            .checked_mul(width)
            .filter(|cells| *cells <= RESP_LCS_TABLE_BYTES_MAX / size_of::<u32>())
            .ok_or(Failure::fixed(
                "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
            ))?;
        let mut table = Self { cells: vec![0; cells], width };
        for (row, a) in left.iter().enumerate() {
            let (done, rest) = table.cells.split_at_mut((row + 1) * width);
            let above = done.get(row * width..).unwrap_or(&[]);
            let mut before = 0;
            let mut diagonal = above.iter();
            let pairs = right.iter().zip(above.iter().skip(1)).zip(rest.iter_mut().skip(1));
            for ((b, above), cell) in pairs {
                let corner = diagonal.next().copied().unwrap_or(0);
                before = if a == b { corner + 1 } else { before.max(*above) };
                *cell = before;
            }
        }
        Ok(table)
    }

    fn at(&self, row: usize, column: usize) -> u32 {
        self.cells.get(row * self.width + column).copied().unwrap_or(0)
    }

    /// Runs of the subsequence, last one first.
    fn runs(&self, left: &[u8], right: &[u8]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut i, mut j) = (left.len(), right.len());
        while i > 0 && j > 0 {
            if left.get(i - 1) == right.get(j - 1) {
                match runs.last_mut() {
                    Some(run) if run.left == i && run.right == j => {
                        *run = Run { left: i - 1, right: j - 1, len: run.len + 1 };
                    }
                    _ => runs.push(Run { left: i - 1, right: j - 1, len: 1 }),
                }
                i -= 1;
                j -= 1;
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        runs
    }
}

pub(in super::super) fn lcs(call: &mut Call<'_, '_>) -> Outcome {
    let (mut length, mut indexes, mut with_length, mut least) = (false, false, false, 0);
    let mut index = 3;
    while index < call.args.len() {
        if call.is(index, "IDX") {
            indexes = true;
        } else if call.is(index, "LEN") {
            length = true;
        } else if call.is(index, "WITHMATCHLEN") {
            with_length = true;
        } else if call.is(index, "MINMATCHLEN") && index + 1 < call.args.len() {
            least = usize::try_from(call.int(index + 1)?).unwrap_or(0);
            index += 1;
        } else {
            return Err(Failure::SYNTAX);
        }
        index += 1;
    }
    if length && indexes {
        return Err(Failure::fixed(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let value = |index| -> Result<_, Failure> {
        let object = call.data.get(call.space(), call.arg(index))?;
        Ok(object.map(|object| object.value).unwrap_or_default())
    };
    let (left, right) = (value(1)?, value(2)?);
    let table = Table::new(&left, &right)?;
    let total = table.at(left.len(), right.len());
    if length {
        call.out.int(i64::from(total));
        return Ok(());
    }
    let runs = table.runs(&left, &right);
    if !indexes {
        let mut text = Vec::with_capacity(total as usize);
        for run in runs.iter().rev() {
            text.extend_from_slice(left.get(run.left..run.left + run.len).unwrap_or(&[]));
        }
        call.out.bulk(&text);
        return Ok(());
    }
    let shown: Vec<&Run> = runs.iter().filter(|run| run.len >= least).collect();
    call.out.map(2);
    call.out.text("matches");
    call.out.array(shown.len());
    for run in shown {
        call.out.array(2 + usize::from(with_length));
        for start in [run.left, run.right] {
            call.out.array(2);
            call.out.len(start);
            call.out.len(start + run.len - 1);
        }
        if with_length {
            call.out.len(run.len);
        }
    }
    call.out.text("len");
    call.out.int(i64::from(total));
    Ok(())
}
