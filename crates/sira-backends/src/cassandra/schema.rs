//! Keyspace and tables.

use std::collections::BTreeMap;

use ::scylla::client::session::Session;
use ::scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use sira_store::{Result, StorageError};

use super::connect::{Replication, Table};
use super::error;
use crate::deadline::Effect;

/// Version of what is stored.
const SCHEMA: i32 = 1;

/// Copies in a datacenter that has as many nodes.
const COPIES: usize = 3;

/// Makes what is not there, and answers the number of buckets that the table was made with. Any
/// number of processes may do so at once.
pub(super) async fn prepare(session: &Session, table: &Table) -> Result<u32> {
    let Table { keyspace, name, .. } = table;
    if let Some(replication) = replication(session, &table.replication)? {
        define(
            session,
            format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}"),
        )
        .await?;
    }
    define(
        session,
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{name} (\
             namespace text, area text, bucket int, key blob, version bigint, expires_at bigint, \
             size bigint, envelope blob, body blob, \
             PRIMARY KEY ((namespace, area, bucket), key))"
        ),
    )
    .await?;
    define(
        session,
        format!(
            "CREATE TABLE IF NOT EXISTS {keyspace}.{name}_layout (\
             id text PRIMARY KEY, layout int, buckets int)"
        ),
    )
    .await?;
    agree(session, table).await
}

/// Runs a definition. Of two processes that make the same thing at once, one may be told that it is
/// there although it asked to be told nothing.
async fn define(session: &Session, text: String) -> Result<()> {
    match session.query_unpaged(text, ()).await {
        Ok(_) => Ok(()),
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::AlreadyExists { .. },
            _,
        ))) => Ok(()),
        Err(failed) => Err(error::of(failed, Effect::Read)),
    }
}

/// Writes layout and buckets if nobody has, and answers the buckets that are written.
async fn agree(session: &Session, table: &Table) -> Result<u32> {
    let Table { keyspace, name, .. } = table;
    let written = |failed| error::of(failed, Effect::Write);
    let buckets = table.buckets.cast_signed();
    let insert = format!(
        "INSERT INTO {keyspace}.{name}_layout (id, layout, buckets) VALUES ('objects', ?, ?) \
         IF NOT EXISTS"
    );
    session.query_unpaged(insert, (SCHEMA, buckets)).await.map_err(written)?;
    let select =
        format!("SELECT layout, buckets FROM {keyspace}.{name}_layout WHERE id = 'objects'");
    let answer = session.query_unpaged(select, ()).await.map_err(written)?;
    let answer = answer.into_rows_result().map_err(error::malformed)?;
    let (layout, buckets) = answer.first_row::<(i32, i32)>().map_err(error::malformed)?;
    if layout > SCHEMA {
        return Err(StorageError::unsupported(format!(
            "the table {keyspace}.{name} has layout {layout}, this version reads up to {SCHEMA}; \
             use a newer one"
        )));
    }
    u32::try_from(buckets)
        .ok()
        .filter(|buckets| (1..=4096).contains(buckets))
        .ok_or_else(|| error::malformed(format!("a table of {buckets} buckets")))
}

/// The replication of a keyspace that is made; `None` when none is.
fn replication(session: &Session, replication: &Replication) -> Result<Option<String>> {
    let datacenters = match replication {
        Replication::Existing => return Ok(None),
        Replication::Datacenters(datacenters) => datacenters.clone(),
        Replication::Automatic => {
            let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
            for node in session.get_cluster_state().get_nodes_info() {
                if let Some(datacenter) = &node.datacenter {
                    *nodes.entry(datacenter.clone()).or_default() += 1;
                }
            }
            let copies = |nodes: usize| u32::try_from(nodes.min(COPIES)).unwrap_or(1);
            nodes.into_iter().map(|(datacenter, nodes)| (datacenter, copies(nodes))).collect()
        }
    };
    if datacenters.is_empty() {
        return Err(StorageError::invalid_input("a keyspace needs a datacenter to lie in"));
    }
    let mut text = "{'class': 'NetworkTopologyStrategy'".to_owned();
    for (datacenter, copies) in datacenters {
        text.push_str(&format!(", '{}': {copies}", datacenter.replace('\'', "''")));
    }
    text.push('}');
    Ok(Some(text))
}
