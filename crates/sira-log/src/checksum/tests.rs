use super::*;

#[test]
fn combines_as_one_pass_over_both_parts() {
    let bytes: Vec<u8> =
        (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (at, end) in
        [(0, 0), (0, 1), (1, 1), (1, 2), (5, 4096), (4096, 4097), (65_536, 131_072), (77, 199_999)]
    {
        let (first, second) = bytes[..end].split_at(at);
        let whole = crc32c::crc32c(&bytes[..end]);
        let parts = crc32c_combine(crc32c::crc32c(first), crc32c::crc32c(second), second.len());
        assert_eq!(parts, whole, "{at} of {end} bytes");
    }
}

#[test]
fn agrees_with_the_reference_for_huge_parts() {
    for len in [1 << 31, (1 << 32) - 1, 1 << 33, (1_usize << 36) + 12_345] {
        assert_eq!(
            crc32c_combine(0x1234_5678, 0x9abc_def0, len),
            crc32c::crc32c_combine(0x1234_5678, 0x9abc_def0, len)
        );
    }
}
