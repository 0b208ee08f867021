use super::*;

#[test]
fn numbers_come_back() {
    for time in [0, 1, i64::MAX as u64 - 1, u64::MAX] {
        assert_eq!(time_from(time_column(time)).unwrap(), time);
    }
    assert_eq!(time_from(time_column(1 << 63)).unwrap(), u64::MAX);
    let version = Version::from_u64(i64::MAX as u64);
    assert_eq!(version_from(version_column(version).unwrap()).unwrap(), version);
    let too_great = Version::from_u64(1 << 63);
    assert_eq!(version_column(too_great).unwrap_err().code(), "invalid_input");
    assert_eq!(version_from(-1).unwrap_err().code(), "corrupt");
}
