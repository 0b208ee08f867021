use super::*;
use crate::options::StorageOptions;

fn put(durability: Option<Durability>) -> BatchOperation {
    let options = StorageOptions { durability, ..StorageOptions::default() };
    BatchOperation::Put { key: "k".into(), value: Bytes::new(), options }
}

#[test]
fn a_batch_is_as_durable_as_its_most_demanding_write() {
    use Durability::{Interval, None as Never, Sync};
    let get = || BatchOperation::Get { key: "k".into() };
    let delete = || BatchOperation::delete("k");
    assert_eq!(strongest(&[get()], Sync), Never);
    assert_eq!(strongest(&[put(Some(Never)), put(Some(Never))], Sync), Never);
    assert_eq!(strongest(&[put(Some(Never)), put(None)], Sync), Sync);
    assert_eq!(strongest(&[put(Some(Never)), delete()], Sync), Sync);
    assert_eq!(strongest(&[put(Some(Interval(9))), put(Some(Interval(5)))], Never), Interval(5));
    assert_eq!(strongest(&[put(Some(Interval(9))), delete()], Never), Interval(9));
}
