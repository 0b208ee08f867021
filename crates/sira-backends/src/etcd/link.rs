//! The client, and what is done about members that do not answer.

use std::time::Duration;

use etcd_client::{
    Client, Error, GetOptions, GetResponse, KvClient, MaintenanceClient, StatusResponse, Txn,
    TxnResponse,
};
use sira_store::Result;

use super::error::{Effect, is_unsent, late, storage_error};
use super::options::EtcdOptions;

/// Largest answer, in bytes: a batch of reads has bodies of 1 MiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Wait between rounds over members none of which could be reached.
const ROUND_WAIT: Duration = Duration::from_millis(50);

/// Where requests go.
#[derive(Clone)]
pub(super) struct Link {
    kv: KvClient,
    maintenance: MaintenanceClient,
    members: usize,
    operation_timeout: Duration,
}

impl Link {
    pub(super) async fn connect(options: &EtcdOptions) -> Result<Self> {
        options.check()?;
        // Fails when the process has chosen its provider already, which then is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let connect = Client::connect(&options.endpoints, Some(options.connect_options().await?));
        let client = tokio::time::timeout(options.connect_timeout, connect)
            .await
            .map_err(|_| options.unanswered())?
            .map_err(|error| storage_error(error, Effect::Read))?;
        Ok(Self {
            kv: client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX),
            maintenance: client.maintenance_client(),
            members: options.endpoints.len(),
            operation_timeout: options.operation_timeout,
        })
    }

    pub(super) async fn txn(&self, txn: Txn, effect: Effect) -> Result<TxnResponse> {
        let request = || {
            let (mut kv, txn) = (self.kv.clone(), txn.clone());
            async move { kv.txn(txn).await }
        };
        self.call(effect, request).await
    }

    pub(super) async fn get(&self, key: &[u8], options: GetOptions) -> Result<GetResponse> {
        let request = || {
            let (mut kv, key, options) = (self.kv.clone(), key.to_vec(), options.clone());
            async move { kv.get(key, Some(options)).await }
        };
        self.call(Effect::Read, request).await
    }

    pub(super) async fn status(&self) -> Result<StatusResponse> {
        let request = || {
            let mut maintenance = self.maintenance.clone();
            async move { maintenance.status().await }
        };
        self.call(Effect::Read, request).await
    }

    /// Makes a request of the next member while it never left because a member is down.
    async fn call<T, F>(&self, effect: Effect, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        for attempt in 1..=self.members * 2 {
            match self.attempt(effect, request()).await? {
                Err(error) if is_unsent(&error) => {}
                result => return result.map_err(|error| storage_error(error, effect)),
            }
            if attempt % self.members == 0 {
                tokio::time::sleep(ROUND_WAIT).await;
            }
        }
        self.attempt(effect, request()).await?.map_err(|error| storage_error(error, effect))
    }

    async fn attempt<T>(
        &self,
        effect: Effect,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>> {
        tokio::time::timeout(self.operation_timeout, request).await.map_err(|_| late(effect))
    }
}
