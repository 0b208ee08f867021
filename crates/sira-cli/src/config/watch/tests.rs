use rustix::process::{Signal as Number, getpid, kill_process};
use tokio::sync::mpsc;

use super::*;

/// Puts a file in the place of another as editors do.
fn replace(path: &Path, text: &str) {
    let other = path.with_extension("new");
    std::fs::write(&other, text).unwrap();
    std::fs::rename(&other, path).unwrap();
}

#[tokio::test]
async fn changes_and_sighup_are_noticed_and_what_is_wrong_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    let named =
        |name: &str| format!("[storage]\ndefault_backend = {name:?}\n[storage.backends.memory]\n");
    std::fs::write(&path, named("embedded")).unwrap();
    let (sender, mut told) = mpsc::unbounded_channel();
    let task = watch_every(Duration::from_millis(5), path.clone(), move |read| {
        sender.send(read).unwrap();
    })
    .unwrap();

    replace(&path, &named("memory"));
    assert_eq!(told.recv().await.unwrap().unwrap().default_backend, "memory");
    replace(&path, "[storage]\ndefault_backend = \"memroy\"\nxyzzy = 1\n");
    let wrong = told.recv().await.unwrap().unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    // In place, and longer: the size tells even where the clock is coarse.
    std::fs::write(&path, named("embedded") + "# the same again\n").unwrap();
    assert_eq!(told.recv().await.unwrap().unwrap().default_backend, "embedded");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(told.recv().await.unwrap().unwrap_err().len(), 1);
    std::fs::write(&path, named("memory")).unwrap();
    assert_eq!(told.recv().await.unwrap().unwrap().default_backend, "memory");

    kill_process(getpid(), Number::HUP).unwrap();
    assert_eq!(told.recv().await.unwrap().unwrap().default_backend, "memory");
    task.abort();
}
