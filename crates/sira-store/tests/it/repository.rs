//! Typed objects and their secondary keys, under races and failed commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::repository::{Clash, Codec, Entity, Json, MessagePack, Rebuilt, SecondaryKey};
use sira_store::{
    BatchOperation, BatchResult, Capabilities, Condition, ListOptions, ListPage, MemoryBackend,
    Object, ReadOptions, Repository, Result, StorageBackend, StorageClient, StorageError,
    StorageOptions, Version,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Person {
    id: u32,
    email: String,
    towns: Vec<String>,
    visits: u64,
}

impl Entity for Person {
    const COLLECTION: &'static str = "people";

    fn key(&self) -> String {
        format!("{:04}", self.id)
    }

    fn secondary_keys(&self) -> Vec<SecondaryKey> {
        let email = SecondaryKey::unique("email", &self.email);
        let towns = self.towns.iter().map(|town| SecondaryKey::shared("town", town));
        std::iter::once(email).chain(towns).collect()
    }
}

fn person(id: u32, email: &str, towns: &[&str]) -> Person {
    let towns = towns.iter().map(|&town| town.to_owned()).collect();
    Person { id, email: email.to_owned(), towns, visits: 0 }
}

/// The same collection, without secondary keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    id: u32,
    text: String,
}

impl Entity for Note {
    const COLLECTION: &'static str = "notes";

    fn key(&self) -> String {
        self.id.to_string()
    }
}

fn over(backend: Arc<dyn StorageBackend>) -> StorageClient {
    let client = StorageClient::new();
    client.register_backend("one", backend).unwrap();
    client
}

fn people(client: &StorageClient) -> Repository<Person> {
    Repository::new(client.clone()).unwrap()
}

fn memory() -> StorageClient {
    over(Arc::new(MemoryBackend::new(64 << 20)))
}

/// A backend without atomic batches, or one that loses batches and their answers.
#[derive(Debug)]
struct Poor {
    inner: Arc<dyn StorageBackend>,
    atomic: bool,
    /// Of 16 batches, so many fail before and as many after they took effect.
    lost: u64,
    seed: AtomicU64,
}

impl Poor {
    fn new(atomic: bool, lost: u64) -> Arc<Self> {
        let inner = Arc::new(MemoryBackend::new(64 << 20));
        Arc::new(Self { inner, atomic, lost, seed: AtomicU64::new(7) })
    }
}

#[async_trait]
impl StorageBackend for Poor {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic_batch: self.atomic, ..self.inner.capabilities() }
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        self.inner.put(key, value, options).await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        self.inner.read(key, options).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        self.inner.remove(key, condition).await
    }

    async fn list(&self, options: ListOptions) -> Result<ListPage> {
        self.inner.list(options).await
    }

    async fn batch(&self, operations: Vec<BatchOperation>) -> Result<Vec<BatchResult>> {
        let fate = random(&self.seed) % 16;
        if fate < self.lost {
            return Err(StorageError::unavailable("the engine is down"));
        }
        let results = self.inner.batch(operations).await;
        if fate < 2 * self.lost {
            return Err(StorageError::timeout("no answer came"));
        }
        results
    }

    async fn namespace(&self, _: &str) -> Result<Arc<dyn StorageBackend>> {
        Err(StorageError::unsupported("one is enough"))
    }
}

fn random(seed: &AtomicU64) -> u64 {
    let step = seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is stored of the secondary keys must be what the objects say, and no unique one twice.
async fn check(client: &StorageClient) -> BTreeMap<String, Person> {
    let mut said = BTreeSet::new();
    let mut held = BTreeMap::new();
    for stored in client.list_keys("people/", 10_000).await.unwrap() {
        let value = client.retrieve(&stored).await.unwrap().unwrap();
        let person: Person = serde_json::from_slice(&value).unwrap();
        assert_eq!(stored, format!("people/{}", person.key()));
        for key in person.secondary_keys() {
            let place = format!("people~{}/{}", key.name, key.value);
            let (place, value) = match key.unique {
                true => (place, person.key()),
                false => (format!("{place}/{}", person.key()), String::new()),
            };
            // Nobody else says the same unique key; a town may be said twice.
            assert!(!key.unique || !said.iter().any(|(other, _)| *other == place), "{place} twice");
            said.insert((place, value));
        }
        held.insert(person.key(), person);
    }
    let mut found = BTreeSet::new();
    for stored in client.list_keys("people~", 10_000).await.unwrap() {
        let value = client.retrieve(&stored).await.unwrap().unwrap();
        found.insert((stored, String::from_utf8(value.to_vec()).unwrap()));
    }
    assert_eq!(found, said);
    held
}

#[tokio::test]
async fn an_object_is_found_by_what_it_says() {
    let client = memory();
    let people = people(&client);
    let ada = person(1, "ada@a", &["london", "paris/n"]);
    people.insert(&ada).await.unwrap();
    people.insert(&person(2, "bob@a", &["london"])).await.unwrap();
    assert_eq!(people.get("0001").await.unwrap(), Some(ada.clone()));
    assert_eq!(people.find_one("email", "ada@a").await.unwrap(), Some(ada.clone()));
    assert_eq!(people.find_one("town", "paris/n").await.unwrap(), Some(ada.clone()));
    assert_eq!(people.find_one("town", "paris").await.unwrap(), None);

    let moved = people
        .update("0001", |person| {
            person.towns = vec!["rome".to_owned()];
            person.email = "ada@b".to_owned();
            Ok(())
        })
        .await;
    assert_eq!(moved.unwrap().unwrap().email, "ada@b");
    assert_eq!(people.find_one("email", "ada@a").await.unwrap(), None);
    assert_eq!(people.find("town", "london", None, 9).await.unwrap().objects[0].id, 2);
    assert_eq!(check(&client).await.len(), 2);

    assert!(people.delete("0001").await.unwrap());
    assert!(!people.delete("0001").await.unwrap());
    assert_eq!(people.update("0001", |_| Ok(())).await.unwrap(), None);
    assert_eq!(check(&client).await.len(), 1);
}

#[tokio::test]
async fn pages_hold_everything_once() {
    let client = memory();
    let people = people(&client);
    for id in 0..25 {
        people.insert(&person(id, &id.to_string(), &["town"])).await.unwrap();
    }
    let (mut after, mut found, mut in_town) = (None, Vec::new(), Vec::new());
    loop {
        let page = people.list(after.as_deref(), 10).await.unwrap();
        found.extend(page.objects.iter().map(|person| person.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    loop {
        let page = people.find("town", "town", after.as_deref(), 7).await.unwrap();
        in_town.extend(page.objects.iter().map(|person| person.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, (0..25).collect::<Vec<_>>());
    assert_eq!(in_town, found);
}

#[tokio::test]
async fn what_is_taken_is_refused_and_nothing_changes() {
    let client = memory();
    let people = people(&client);
    people.insert(&person(1, "one@a", &["x"])).await.unwrap();
    people.insert(&person(2, "two@a", &["x"])).await.unwrap();
    let before = check(&client).await;
    let taken = people.insert(&person(1, "new@a", &["y"])).await.unwrap_err();
    assert!(matches!(taken, StorageError::PreconditionFailed(_)), "{taken}");
    let taken = people.put(&person(2, "one@a", &["y"])).await.unwrap_err();
    assert!(matches!(taken, StorageError::PreconditionFailed(_)), "{taken}");
    assert!(taken.to_string().contains("0001"), "{taken}");
    let changed_key = people
        .update("0002", |person| {
            person.id = 3;
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(matches!(changed_key, StorageError::InvalidInput(_)), "{changed_key}");
    let own = people.update("0002", |_| Err(StorageError::conflict("no"))).await.unwrap_err();
    assert!(matches!(own, StorageError::Conflict(_)), "{own}");
    assert_eq!(check(&client).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_updates_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let embedded = over(Arc::new(EmbeddedBackend::new(engine)));
    for client in [memory(), embedded, over(Poor::new(false, 0))] {
        let has_transactions = client.begin().await.is_ok();
        let notes: Repository<Note> = Repository::new(client.clone()).unwrap();
        let people = people(&client);
        notes.insert(&Note { id: 1, text: String::new() }).await.unwrap();
        if has_transactions {
            people.insert(&person(1, "one", &[])).await.unwrap();
        }
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (notes, people) = (notes.clone(), people.clone());
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let add = |note: &mut Note| {
                            note.text.push('|');
                            Ok(())
                        };
                        notes.update("1", add).await.unwrap().unwrap();
                        if has_transactions {
                            let visit = |person: &mut Person| {
                                person.visits += 1;
                                person.towns = vec![(person.visits % 3).to_string()];
                                Ok(())
                            };
                            people.update("0001", visit).await.unwrap().unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(notes.get("1").await.unwrap().unwrap().text.len(), 160);
        if has_transactions {
            assert_eq!(people.get("0001").await.unwrap().unwrap().visits, 160);
            check(&client).await;
        }
    }
}

/// Random inserts, updates and removals of eight tasks over few people, addresses and towns, while
/// commits and their answers are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn secondary_keys_never_disagree_with_the_objects() {
    let client = over(Poor::new(true, 2));
    let people = people(&client);
    let tasks: Vec<_> = (0..8u64)
        .map(|task| {
            let people = people.clone();
            tokio::spawn(async move {
                let seed = AtomicU64::new(task);
                let draw = |most: u64| random(&seed) % most;
                let mut done = 0;
                for _ in 0..150 {
                    let email = draw(12).to_string();
                    let towns = [draw(4).to_string(), draw(4).to_string()];
                    let drawn = Person {
                        id: draw(10) as u32,
                        email: email.clone(),
                        towns: towns.to_vec(),
                        visits: 0,
                    };
                    let key = drawn.key();
                    let ended = match draw(5) {
                        0 => people.insert(&drawn).await,
                        1 => people.put(&drawn).await,
                        2 => people.delete(&key).await.map(drop),
                        _ => people
                            .update(&key, |person| {
                                person.email.clone_from(&email);
                                person.towns = towns.to_vec();
                                Ok(())
                            })
                            .await
                            .map(drop),
                    };
                    match ended {
                        Ok(()) => done += 1,
                        Err(
                            StorageError::PreconditionFailed(_)
                            | StorageError::Unavailable(_)
                            | StorageError::Timeout(_),
                        ) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    assert!(done > 300, "{done} of 1200");
    let held = check(&client).await;
    for person in held.values() {
        assert_eq!(people.find_one("email", &person.email).await.unwrap().as_ref(), Some(person));
    }
}

#[tokio::test]
async fn secondary_keys_need_transactions_and_say_so() {
    let client = over(Poor::new(false, 0));
    let refused = people(&client).insert(&person(1, "a", &[])).await.unwrap_err();
    assert!(matches!(refused, StorageError::Unsupported(_)), "{refused}");
    assert!(refused.to_string().contains("direct"), "{refused}");
    assert!(client.list_keys("", 10).await.unwrap().is_empty());
    let rebuilt = people(&client).rebuild().await;
    assert_eq!(rebuilt.unwrap(), Rebuilt::default());
}

#[tokio::test]
async fn a_rebuild_mends_what_others_wrote() {
    let client = memory();
    let people = people(&client);
    people.insert(&person(1, "one", &["x"])).await.unwrap();
    people.insert(&person(2, "two", &["x"])).await.unwrap();
    // Another program replaces, removes and adds objects without their secondary keys.
    let options = StorageOptions::default;
    let write = |person: Person| {
        let client = client.clone();
        async move {
            let key = format!("people/{}", person.key());
            client.store(&key, Json::encode(&person).unwrap(), options()).await.unwrap();
        }
    };
    write(person(1, "uno", &["y", "z"])).await;
    client.delete("people/0002").await.unwrap();
    write(person(3, "three", &["z"])).await;
    write(person(4, "three", &[])).await;
    let rebuilt = people.rebuild().await.unwrap();
    let clash = Clash { name: "email", kept: "0003".into(), other: "0004".into() };
    let expected = Rebuilt { objects: 3, written: 5, removed: 4, clashes: vec![clash] };
    assert_eq!(rebuilt, expected);
    assert_eq!(people.find("town", "z", None, 9).await.unwrap().objects.len(), 2);

    // Whoever loses the clash does not take the other's key along.
    people.delete("0004").await.unwrap();
    assert_eq!(people.find_one("email", "three").await.unwrap().unwrap().id, 3);
    check(&client).await;
    let nothing = Rebuilt { objects: 2, ..Rebuilt::default() };
    assert_eq!(people.rebuild().await.unwrap(), nothing);
}

#[tokio::test]
async fn codecs_keep_what_fields_come_and_go() {
    #[derive(Serialize)]
    struct Newer<'a> {
        text: &'a str,
        id: u32,
        added: bool,
    }
    let newer = Newer { text: "hi", id: 7, added: true };
    let expected = Note { id: 7, text: "hi".to_owned() };
    assert_eq!(Json::decode::<Note>(&Json::encode(&newer).unwrap()).unwrap(), expected);
    let packed = MessagePack::encode(&newer).unwrap();
    assert_eq!(&packed[..], b"\x83\xa4text\xa2hi\xa2id\x07\xa5added\xc3");
    assert_eq!(MessagePack::decode::<Note>(&packed).unwrap(), expected);

    let client = memory();
    let packed: Repository<Note, MessagePack> = Repository::with_codec(client.clone()).unwrap();
    packed.put(&expected).await.unwrap();
    assert_eq!(packed.get("7").await.unwrap(), Some(expected));
    let as_json = Repository::<Note>::new(client).unwrap().get("7").await.unwrap_err();
    assert!(as_json.to_string().contains("codec"), "{as_json}");
}
