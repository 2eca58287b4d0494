//! Lines of files that may be long, with lines that may be longer still.

use std::io::{self, BufRead};

/// Longer lines are cut off here.
pub(super) const LONGEST: usize = 1 << 20;

/// Shows each line without its end, of an overlong one only the beginning; `false` ends the reading.
pub(super) fn each_line(mut from: impl BufRead, mut show: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let chunk = from.fill_buf()?;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let piece = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        let last = chunk.is_empty();
        let taken = piece.len() + usize::from(end.is_some());
        if end.is_some() && line.is_empty() {
            if !show(piece) {
                return Ok(());
            }
        } else {
            line.extend_from_slice(
                piece.get(..LONGEST.saturating_sub(line.len()).min(piece.len())).unwrap_or_default(),
            );
            if (end.is_some() || last && !line.is_empty()) && !show(&std::mem::take(&mut line)) {
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
        from.consume(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_come_out_whole_however_they_are_read() {
        let long = "x".repeat(LONGEST + 1);
        let text = format!("a\n\nbc\n{long}\nd");
        for capacity in [1, 7, 64 << 10] {
            let mut seen = Vec::new();
            let from = BufReader::with_capacity(capacity, text.as_bytes());
            each_line(from, |line| {
                seen.push(line.to_vec());
                true
            })
            .expect("memory can be read");
            let lengths: Vec<_> = seen.iter().map(Vec::len).collect();
            assert_eq!(lengths.get(..3), Some(&[1, 0, 2][..]));
            assert!(lengths.get(3).is_some_and(|length| *length >= LONGEST) && lengths.get(4) == Some(&1));
        }
    }
}
