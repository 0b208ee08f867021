use super::*;

#[test]
fn documents_keep_their_form() {
    let kept = Kept {
        format: FORMAT,
        written_ms: 9,
        scrub: Some(ScrubPlace::log(LogPosition { segment: 3, offset: 4096 })),
        remembered: Remembered::default(),
    };
    let golden = r#"{"format":1,"written_ms":9,"scrub":{"log":{"segment":3,"offset":4096}},"reads":{"windows":[],"outliers":0},"writes":{"windows":[],"outliers":0},"usage":{"samples":[]},"integrity":{"pass_bytes":0,"last_pass_bytes":0,"pass_ended_ms":null,"damaged":[],"found":[]}}"#;
    assert_eq!(serde_json::to_string(&kept).unwrap(), golden);
    assert_eq!(serde_json::from_str::<Kept>(golden).unwrap(), kept);
    let objects = r#"{"objects":{"namespace":"a","after":"k"}}"#;
    let place: ScrubPlace = serde_json::from_str(objects).unwrap();
    assert_eq!(serde_json::to_string(&place).unwrap(), objects);
}

#[tokio::test]
async fn what_another_version_wrote_is_learned_anew() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), Default::default()).unwrap();
    let memory = Memory::new(engine).unwrap();
    assert_eq!(memory.read("a").await.unwrap(), None);
    let kept = Kept { format: FORMAT, written_ms: 1, ..Kept::default() };
    memory.write("a", &kept).await.unwrap();
    assert_eq!(memory.read("a").await.unwrap(), Some(kept));
    let later = Kept { format: FORMAT + 1, ..Kept::default() };
    memory.write("a", &later).await.unwrap();
    assert_eq!(memory.read("a").await.unwrap(), None);
}
