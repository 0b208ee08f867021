//! Options, the connection, and what the collection needs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ::mongodb::bson::{RawDocumentBuf, doc};
use ::mongodb::error::{Error, ErrorKind};
use ::mongodb::options::{
    ClientOptions, CollectionOptions, IndexOptions, ReadConcern, ReturnDocument, SelectionCriteria,
    Tls, TlsOptions, WriteConcern,
};
use ::mongodb::{Client, Collection, IndexModel};
use sira_store::{Result, StorageError};

use super::{MongoDriver, error};
use crate::deadline::Effect;

/// Version of what is stored.
const SCHEMA: i64 = 1;

/// Where that version is kept: an `_id` that is no key's.
const SCHEMA_ID: &str = "!sira";

/// Name of the index by which documents expire.
const EXPIRY_INDEX: &str = "sira_expiry";

/// How long after its time a record is kept. Clocks differ, and nobody waits for the room.
const EXPIRY_SLACK: Duration = Duration::from_secs(3600);

/// How to reach MongoDB, and where records lie there.
#[derive(Clone, PartialEq)]
pub struct MongoOptions {
    /// A connection string: `mongodb://` or `mongodb+srv://`, with its usual parameters. It may name
    /// a read concern and a write concern; else a majority must confirm both.
    pub url: String,
    /// The database; `None` is the one that the connection string names, else `sira`.
    pub database: Option<String>,
    /// The collection; `sira_objects` by default. It is made if it is not there.
    pub collection: String,
    /// Most connections to one server; 64 by default.
    pub pool_size: u32,
    /// How long to wait for a connection, and for a server to be found; 5 s by default.
    pub connect_timeout: Duration,
    /// How long one operation may take; 30 s by default.
    pub operation_timeout: Duration,
    /// Certificates to trust, a PEM file; `None` trusts those of Mozilla. Naming one turns TLS on.
    pub ca_file: Option<PathBuf>,
}

impl MongoOptions {
    /// The defaults, for this connection string.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            database: None,
            collection: "sira_objects".to_owned(),
            pool_size: 64,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(30),
            ca_file: None,
        }
    }
}

impl fmt::Debug for MongoOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection string holds the password, and its parameters may hold more.
        f.debug_struct("MongoOptions")
            .field("database", &self.database)
            .field("collection", &self.collection)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

impl MongoDriver {
    /// Connects, and makes the collection's index if it is not there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for options that cannot be right,
    /// [`StorageError::PermissionDenied`] for refused credentials, [`StorageError::Unavailable`] when
    /// no server can be reached, [`StorageError::Unsupported`] when a newer version of this software
    /// has written the collection.
    pub async fn connect(options: MongoOptions) -> Result<Self> {
        let client_options = client_options(&options).await?;
        let database = options
            .database
            .or_else(|| client_options.default_database.clone())
            .unwrap_or_else(|| "sira".to_owned());
        let client =
            Client::with_options(client_options).map_err(|error| error::of(error, Effect::Read))?;
        let database = client.database(&database);
        let records = database.collection_with_options(
            &options.collection,
            CollectionOptions::builder()
                .selection_criteria(SelectionCriteria::ReadPreference(
                    ::mongodb::options::ReadPreference::Primary,
                ))
                .build(),
        );
        let driver = Self { client, database, records, timeout: options.operation_timeout };
        driver.within(Effect::Write, prepare(&driver.records)).await?;
        Ok(driver)
    }
}

async fn client_options(options: &MongoOptions) -> Result<ClientOptions> {
    let mut parsed =
        ClientOptions::parse(&options.url).await.map_err(|error| unreadable(&error))?;
    parsed.app_name.get_or_insert_with(|| "sira".to_owned());
    parsed.max_pool_size = Some(options.pool_size);
    parsed.max_connecting = Some(options.pool_size.clamp(1, 8));
    parsed.connect_timeout = Some(options.connect_timeout);
    parsed.server_selection_timeout = Some(options.connect_timeout);
    parsed.read_concern.get_or_insert_with(ReadConcern::majority);
    parsed.write_concern.get_or_insert_with(WriteConcern::majority);
    if let Some(path) = &options.ca_file {
        let mut tls = match parsed.tls.take() {
            Some(Tls::Enabled(tls)) => tls,
            _ => TlsOptions::default(),
        };
        tls.ca_file_path = Some(path.clone());
        parsed.tls = Some(Tls::Enabled(tls));
    }
    Ok(parsed)
}

/// The error of a connection string that cannot be read. What the driver says may quote it, so that
/// is told only where it comes from elsewhere.
fn unreadable(error: &Error) -> StorageError {
    match error.kind.as_ref() {
        ErrorKind::DnsResolve { .. } => StorageError::unavailable(
            "the address of MongoDB's connection string cannot be resolved; \
             check the host name and the name server",
        ),
        _ => StorageError::invalid_input(
            "MongoDB's connection string cannot be read; it looks like \
             mongodb://user:password@host:27017/database, with special characters of user and \
             password percent-encoded",
        ),
    }
}

/// Makes what the collection needs. Any number of processes may do so at once.
async fn prepare(records: &Collection<RawDocumentBuf>) -> Result<()> {
    let written = |failed| error::of(failed, Effect::Write);
    let schema = records
        .find_one_and_update(
            doc! { "_id": SCHEMA_ID },
            doc! { "$setOnInsert": { "schema": SCHEMA } },
        )
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await;
    let schema = match schema {
        Err(failed) if error::is_duplicate(&failed) => {
            records.find_one(doc! { "_id": SCHEMA_ID }).await.map_err(written)?
        }
        schema => schema.map_err(written)?,
    };
    let found = schema.as_ref().and_then(|schema| schema.get_i64("schema").ok());
    match found {
        Some(SCHEMA) => {}
        Some(newer) if newer > SCHEMA => {
            return Err(StorageError::unsupported(format!(
                "the collection {:?} has layout {newer}, this version reads up to {SCHEMA}; \
                 use a newer one",
                records.name()
            )));
        }
        _ => {
            return Err(StorageError::corrupt(format!(
                "the collection {:?} does not say which layout it has",
                records.name()
            )));
        }
    }
    let expiry = IndexOptions::builder()
        .name(EXPIRY_INDEX.to_owned())
        .expire_after(EXPIRY_SLACK)
        .sparse(true)
        .build();
    let expiry = IndexModel::builder().keys(doc! { "x": 1 }).options(expiry).build();
    records.create_index(expiry).await.map_err(written)?;
    Ok(())
}
