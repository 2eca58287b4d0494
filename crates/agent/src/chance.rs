//! Chance, from the system.

/// This many random bytes.
pub(crate) fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("draw random bytes: {error}"))?;
    Ok(bytes)
}

/// A fraction from 0 up to but not including 1.
pub(crate) fn fraction() -> f64 {
    // Without chance a constant must do: waiting is then merely less well spread.
    let drawn = bytes::<4>().map_or(u32::MAX / 2, u32::from_le_bytes);
    f64::from(drawn) / (f64::from(u32::MAX) + 1.0)
}
