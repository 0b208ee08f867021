//! Arithmetic of `INCRBYFLOAT`: 64 bits of mantissa, rounded to even, as x87's `long double`, so
//! that sums print as Redis prints them on the machines it mostly runs on.

use num_bigint::BigUint;

/// Bits of the mantissa.
const MANTISSA_BITS: u64 = 64;
/// Exponent of the lowest bit of the smallest number.
const EXPONENT_MIN: i64 = -16445;
/// Exponent of the lowest bit of the largest number.
const EXPONENT_MAX: i64 = 16383 - 63;
/// Longest text that is read as a number, in bytes.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Digits behind the point that are printed.
const FRACTION_DIGITS: usize = 17;

/// Why a text or a sum is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloatError {
    /// The text is no number, or one that does not fit.
    Invalid,
    /// The sum is infinite.
    Infinite,
}

/// A number, or an infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extended {
    negative: bool,
    /// `None` for infinity.
    mantissa: Option<u64>,
    exponent: i64,
}

impl Extended {
    pub(crate) const ZERO: Self = Self { negative: false, mantissa: Some(0), exponent: 0 };

    /// Reads decimal notation, with or without an exponent.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, FloatError> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(FloatError::Invalid);
        }
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Ok(Self { negative, mantissa: None, exponent: 0 });
        }
        let exponent_at = rest.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (plain, exponent) = match exponent_at.and_then(|at| rest.split_at_checked(at)) {
            Some((plain, tail)) => (plain, parse_exponent(tail.get(1..).unwrap_or(&[]))?),
            None => (rest, 0),
        };
        let mut digits = Vec::with_capacity(plain.len());
        let mut point = None;
        for byte in plain {
            match byte {
                b'0'..=b'9' => digits.push(byte - b'0'),
                b'.' if point.is_none() => point = Some(digits.len()),
                _ => return Err(FloatError::Invalid),
            }
        }
        if digits.is_empty() {
            return Err(FloatError::Invalid);
        }
        let fraction = digits.len() - point.unwrap_or(digits.len());
        let power = exponent - fraction as i64;
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        if leading == digits.len() {
            return Ok(Self { negative, ..Self::ZERO });
        }
        let magnitude = power + (digits.len() - leading) as i64;
        if !(-5100..=5100).contains(&magnitude) {
            return Err(FloatError::Invalid);
        }
        let number = BigUint::from_radix_be(&digits, 10).ok_or(FloatError::Invalid)?;
        let rounded = if power >= 0 {
            let scale = BigUint::from(10_u32).pow(power as u32);
            round(negative, number * scale, 0, false)
        } else {
            let scale = BigUint::from(10_u32).pow(power.unsigned_abs() as u32);
            let shift = (scale.bits() + MANTISSA_BITS + 3).saturating_sub(number.bits());
            let shifted = number << shift;
            let quotient = &shifted / &scale;
            let rest = shifted - &quotient * &scale;
            round(negative, quotient, -(shift as i64), rest != BigUint::ZERO)
        };
        match rounded.mantissa {
            None | Some(0) => Err(FloatError::Invalid),
            Some(_) => Ok(rounded),
        }
    }

    /// The sum of two numbers.
    pub(crate) fn add(self, other: Self) -> Result<Self, FloatError> {
        let (Some(left), Some(right)) = (self.mantissa, other.mantissa) else {
            return Err(FloatError::Infinite);
        };
        if left == 0 || right == 0 {
            return Ok(if left == 0 { other } else { self });
        }
        let exponent = self.exponent.min(other.exponent);
        let left = BigUint::from(left) << (self.exponent - exponent);
        let right = BigUint::from(right) << (other.exponent - exponent);
        let sum = if self.negative == other.negative {
            round(self.negative, left + right, exponent, false)
        } else if left >= right {
            round(self.negative, left - right, exponent, false)
        } else {
            round(other.negative, right - left, exponent, false)
        };
        if sum.mantissa.is_none() { Err(FloatError::Infinite) } else { Ok(sum) }
    }

    /// Decimal notation with at most 17 digits behind the point, without zeros at the end.
    pub(crate) fn format(self) -> String {
        let Some(mantissa) = self.mantissa else {
            return if self.negative { "-inf".to_owned() } else { "inf".to_owned() };
        };
        let mantissa = BigUint::from(mantissa);
        let mut text = if self.exponent >= 0 {
            (mantissa << self.exponent).to_str_radix(10)
        } else {
            let shift = self.exponent.unsigned_abs();
            let scaled = mantissa * BigUint::from(10_u32).pow(FRACTION_DIGITS as u32);
            let mut digits: BigUint = &scaled >> shift;
            let rest = scaled - (&digits << shift);
            let half = BigUint::from(1_u32) << (shift - 1);
            if rest > half || (rest == half && digits.bit(0)) {
                digits += 1_u32;
            }
            let digits = digits.to_str_radix(10);
            let padded = format!("{digits:0>width$}", width = FRACTION_DIGITS + 1);
            let (whole, fraction) = padded.split_at(padded.len() - FRACTION_DIGITS);
            format!("{whole}.{fraction}").trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        if self.negative && text != "0" {
            text.insert(0, '-');
        }
        text
    }
}

/// A decimal exponent, cut to what is out of range anyway.
fn parse_exponent(text: &[u8]) -> Result<i64, FloatError> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FloatError::Invalid);
    }
    let value = digits
        .iter()
        .fold(0_i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000));
    Ok(if negative { -value } else { value })
}

/// The nearest number to `number * 2^exponent`, plus something below it where `sticky`.
fn round(negative: bool, number: BigUint, exponent: i64, sticky: bool) -> Extended {
    let excess = number.bits() as i64 - MANTISSA_BITS as i64;
    let shift = excess.max(EXPONENT_MIN - exponent);
    let (mut rounded, mut exponent) = if shift > 0 {
        let mut kept: BigUint = &number >> shift;
        let rest = &number - (&kept << shift);
        let half = BigUint::from(1_u32) << (shift - 1);
        if rest > half || (rest == half && (sticky || kept.bit(0))) {
            kept += 1_u32;
        }
        (kept, exponent + shift)
    } else {
        (number, exponent)
    };
    if rounded.bits() > MANTISSA_BITS {
        rounded >>= 1_u32;
        exponent += 1;
    }
    let mantissa = rounded.iter_u64_digits().next().unwrap_or(0);
    let top = exponent - (MANTISSA_BITS as i64 - rounded.bits() as i64);
    if top > EXPONENT_MAX {
        return Extended { negative, mantissa: None, exponent: 0 };
    }
    Extended { negative, mantissa: Some(mantissa), exponent }
}
