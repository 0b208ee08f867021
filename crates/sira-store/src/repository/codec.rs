//! The form that objects are stored in.

use std::error::Error;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Result of a codec, with the error of whatever library does it.
pub type CodecResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Makes bytes of objects, and objects of bytes.
pub trait Codec: 'static {
    /// Media type of the bytes, which is stored beside them where the backend keeps metadata.
    const MEDIA_TYPE: &'static str;

    /// The bytes of an object.
    ///
    /// # Errors
    /// When the object has no such form.
    fn encode<T: Serialize>(object: &T) -> CodecResult<Bytes>;

    /// The object that the bytes are of.
    ///
    /// # Errors
    /// When they are of none.
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> CodecResult<T>;
}

/// JSON, which everybody reads.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Codec for Json {
    const MEDIA_TYPE: &'static str = "application/json";

    fn encode<T: Serialize>(object: &T) -> CodecResult<Bytes> {
        Ok(serde_json::to_vec(object)?.into())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> CodecResult<T> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// MessagePack with the names of fields, so that fields can come and go as in JSON, in about two
/// thirds of the bytes.
#[derive(Debug, Clone, Copy)]
pub struct MessagePack;

impl Codec for MessagePack {
    const MEDIA_TYPE: &'static str = "application/vnd.msgpack";

    fn encode<T: Serialize>(object: &T) -> CodecResult<Bytes> {
        Ok(rmp_serde::to_vec_named(object)?.into())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> CodecResult<T> {
        Ok(rmp_serde::from_slice(bytes)?)
    }
}
