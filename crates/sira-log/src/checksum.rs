//! CRC32C of parts put together.

/// The polynomial of CRC32C, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// `x` to the power of 2^n, modulo the polynomial.
const POWERS: [u32; 67] = {
    let mut powers = [0; 67];
    powers[0] = 1 << 30;
    let mut n = 1;
    while n < powers.len() {
        powers[n] = multiply(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
};

/// CRC32C of two parts one after the other, from the CRC32C of each and the length of the second.
///
/// To append `n` zero bytes to a part is to multiply its remainder by x to the power of 8n, which
/// takes one multiplication for each bit that is set in `n`.
#[must_use]
pub fn crc32c_combine(first: u32, second: u32, second_len: usize) -> u32 {
    let mut shifted = first;
    let mut rest = second_len as u64;
    while rest != 0 {
        let bit = rest.trailing_zeros() as usize;
        // Eight bits a byte.
        shifted = multiply(shifted, POWERS[bit + 3]);
        rest &= rest - 1;
    }
    shifted ^ second
}

/// Product modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= b & 0_u32.wrapping_sub((a >> bit) & 1);
        b = (b >> 1) ^ (POLYNOMIAL & 0_u32.wrapping_sub(b & 1));
    }
    product
}

#[cfg(test)]
mod tests;
