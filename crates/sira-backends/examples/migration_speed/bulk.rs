//! Each engine's own way to take many values at once, by the simplest good program.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mysql_async::prelude::Queryable;
use tokio::task::JoinSet;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};

use crate::{Result, TRANSFERS, key, variable};

/// Values of one request.
const PART: usize = 500;

/// Pipelines of SETs.
pub async fn redis(prefix: &str, values: &[Vec<u8>]) -> Result<()> {
    let client = redis::Client::open(variable("SIRA_TEST_REDIS_URL")?)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    for (part, values) in values.chunks(PART).enumerate() {
        let mut pipeline = redis::pipe();
        for (number, value) in values.iter().enumerate() {
            pipeline.set(format!("{prefix}:{}", key(part * PART + number)), &value[..]).ignore();
        }
        let () = pipeline.query_async(&mut connection).await?;
    }
    Ok(())
}

/// One `COPY`.
pub async fn postgres(table: &str, values: &[Vec<u8>]) -> Result<()> {
    let url = variable("SIRA_TEST_POSTGRES_URL")?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let create = format!("CREATE TABLE {table} (key text COLLATE \"C\" PRIMARY KEY, value bytea)");
    client.batch_execute(&create).await?;
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN BINARY")).await?;
    let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::BYTEA]);
    let mut writer = std::pin::pin!(writer);
    for (number, value) in values.iter().enumerate() {
        let key = key(number);
        let row: [&(dyn ToSql + Sync); 2] = [&key, value];
        writer.as_mut().write(&row).await?;
    }
    writer.finish().await?;
    client.batch_execute(&format!("DROP TABLE {table}")).await?;
    drop(client);
    connection.await??;
    Ok(())
}

/// Statements of many rows.
pub async fn mysql(table: &str, values: &[Vec<u8>]) -> Result<()> {
    let mut conn = mysql_async::Conn::from_url(variable("SIRA_TEST_MYSQL_URL")?).await?;
    conn.query_drop(format!("CREATE TABLE {table} (k varbinary(1024) PRIMARY KEY, v longblob)"))
        .await?;
    for (part, values) in values.chunks(PART).enumerate() {
        let rows = vec!["(?, ?)"; values.len()].join(", ");
        let mut parameters: Vec<mysql_async::Value> = Vec::with_capacity(2 * values.len());
        for (number, value) in values.iter().enumerate() {
            parameters.push(key(part * PART + number).into());
            parameters.push(value.clone().into());
        }
        conn.exec_drop(format!("INSERT INTO {table} VALUES {rows}"), parameters).await?;
    }
    conn.query_drop(format!("DROP TABLE {table}")).await?;
    Ok(conn.disconnect().await?)
}

/// Transactions of many rows.
pub fn sqlite(path: &std::path::Path, values: &[Vec<u8>]) -> Result<()> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection
        .execute_batch("CREATE TABLE bulk (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")?;
    for (part, values) in values.chunks(PART).enumerate() {
        let transaction = connection.transaction()?;
        let mut put = transaction.prepare_cached("INSERT INTO bulk VALUES (?, ?)")?;
        for (number, value) in values.iter().enumerate() {
            put.execute((key(part * PART + number).as_bytes(), value))?;
        }
        drop(put);
        transaction.commit()?;
    }
    Ok(())
}

/// OpenDAL, many requests at once.
pub async fn s3(prefix: &str, values: &Arc<Vec<Vec<u8>>>) -> Result<()> {
    let of = |name: &str| variable(&format!("SIRA_TEST_S3_{name}"));
    let service = opendal::services::S3::default()
        .root(prefix)
        .bucket(&of("BUCKET")?)
        .region(&of("REGION")?)
        .endpoint(&of("ENDPOINT")?)
        .access_key_id(&of("ACCESS_KEY_ID")?)
        .secret_access_key(&of("SECRET_ACCESS_KEY")?);
    let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
    let transport = opendal_http_transport_reqwest::ReqwestTransport::new(client);
    let operator = opendal::Operator::new(service)?;
    let context = operator.context().with_http_transport(opendal::HttpTransporter::new(transport));
    let operator = operator.with_context(context);
    let next = Arc::new(AtomicUsize::new(0));
    let mut running: JoinSet<opendal::Result<()>> = JoinSet::new();
    for _ in 0..TRANSFERS {
        let (operator, next, values) = (operator.clone(), Arc::clone(&next), Arc::clone(values));
        running.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(value) = values.get(number) else { return Ok(()) };
                operator.write(&key(number), value.clone()).await?;
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

/// rclone, from a folder.
pub fn rclone(folder: &std::path::Path, prefix: &str) -> Result<()> {
    let of = |name: &str| variable(&format!("SIRA_TEST_S3_{name}"));
    let status = std::process::Command::new("rclone")
        .arg("copy")
        .arg(folder)
        .arg(format!("sira:{}/{prefix}", of("BUCKET")?))
        .args(["--transfers", &TRANSFERS.to_string(), "--checkers", &TRANSFERS.to_string()])
        .args(["--s3-no-check-bucket", "--config", "/dev/null"])
        // It refuses to run with one, and the server is asked without TLS.
        .env_remove("AWS_CA_BUNDLE")
        .env("RCLONE_CONFIG_SIRA_TYPE", "s3")
        .env("RCLONE_CONFIG_SIRA_PROVIDER", "Other")
        .env("RCLONE_CONFIG_SIRA_ENDPOINT", of("ENDPOINT")?)
        .env("RCLONE_CONFIG_SIRA_REGION", of("REGION")?)
        .env("RCLONE_CONFIG_SIRA_ACCESS_KEY_ID", of("ACCESS_KEY_ID")?)
        .env("RCLONE_CONFIG_SIRA_SECRET_ACCESS_KEY", of("SECRET_ACCESS_KEY")?)
        .status()?;
    if status.success() { Ok(()) } else { Err("rclone failed".into()) }
}
