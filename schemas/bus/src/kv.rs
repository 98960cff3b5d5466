//! Key-value buckets, read by direct get and written by compare-and-set, without a consumer: outside of `app` nobody may
//! create one. Who wants to know of changes listens on the bucket's notice and reads again.

use bytes::Bytes;
use jiff::Timestamp;
use tidegate_schemas::header::Headers;
use tidegate_schemas::subject::notice_kv;

use crate::api::{MULTI_GET_MAX, StreamState};
use crate::bus::{Bus, CoreStream};
use crate::error::{ApiError, PublishError};
use crate::message::{Outbound, Stored};

/// Operation marker of a deleted key (ADR-8).
const OPERATION: &str = "KV-Operation";

/// Keys that are read at once, count: fewer than the server answers, and a question far below what a message may hold.
const KEYS_AT_ONCE: usize = MULTI_GET_MAX / 4;

/// A value of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Its revision: the sequence in the bucket's stream.
    pub revision: u64,
    /// When it was written.
    pub written: Timestamp,
}

/// A read or write of a bucket failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The key is not one.
    #[error("`{key}` is no key; use letters, digits and `-_=/.` without an empty part")]
    BadKey {
        /// The key.
        key: String,
    },
    /// Somebody else wrote the key since it was read, or it exists already.
    #[error("key `{key}` of bucket `{bucket}` has moved on; read it again")]
    Conflict {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// The read failed.
    #[error(transparent)]
    Read(#[from] ApiError),
    /// The write failed.
    #[error(transparent)]
    Write(#[from] PublishError),
}

/// Name of the stream behind a bucket.
#[must_use]
pub(crate) fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

impl Bus {
    /// The value of a key, or `None`.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>, KvError> {
        let subject = subject_of(bucket, key)?;
        let stored = self.last_for_subject(&bucket_stream(bucket), &subject).await?;
        Ok(stored.and_then(|stored| entry_of(bucket, stored)))
    }

    /// What a bucket holds, and may hold.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn bucket_info(&self, bucket: &str) -> Result<StreamState, ApiError> {
        self.stream_info(&bucket_stream(bucket)).await
    }

    /// All values whose keys match, at most 1,024; `filter` is a key with wildcards, `>` for all.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn kv_entries(&self, bucket: &str, filter: &str) -> Result<Vec<KvEntry>, KvError> {
        let stored = self.last_per_subject(&bucket_stream(bucket), &format!("$KV.{bucket}.{filter}")).await?;
        Ok(stored.into_iter().filter_map(|stored| entry_of(bucket, stored)).collect())
    }

    /// The values of these keys, however many they are; those that have none are left out.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn kv_values(&self, bucket: &str, keys: &[String]) -> Result<Vec<KvEntry>, KvError> {
        let subjects = keys.iter().map(|key| subject_of(bucket, key)).collect::<Result<Vec<_>, _>>()?;
        let mut entries = Vec::new();
        for part in subjects.chunks(KEYS_AT_ONCE) {
            let part: Vec<&str> = part.iter().map(String::as_str).collect();
            let stored = self.last_of_each(&bucket_stream(bucket), &part).await?;
            entries.extend(stored.into_iter().filter_map(|stored| entry_of(bucket, stored)));
        }
        Ok(entries)
    }

    /// Writes a key whatever it held, tells the bucket's listeners, and returns the revision.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn kv_put(&self, bucket: &str, key: &str, value: impl Into<Bytes>) -> Result<u64, KvError> {
        self.kv_write(bucket, key, value.into(), None).await
    }

    /// Writes a key that does not exist yet.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when it exists.
    pub async fn kv_create(&self, bucket: &str, key: &str, value: impl Into<Bytes>) -> Result<u64, KvError> {
        let revision = self.kv_first(bucket, key, value.into()).await?;
        self.notify(bucket).await?;
        Ok(revision)
    }

    /// Writes a key only if its revision is still this one.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when somebody else was first.
    pub async fn kv_update(
        &self,
        bucket: &str,
        key: &str,
        value: impl Into<Bytes>,
        revision: u64,
    ) -> Result<u64, KvError> {
        self.kv_write(bucket, key, value.into(), Some(revision)).await
    }

    /// Writes a key only if it still stands as it was read: at this revision, or not at all. The bucket's listeners are not told,
    /// so zones that may tell no notices can write by it.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when somebody else was first.
    pub async fn kv_swap(
        &self,
        bucket: &str,
        key: &str,
        value: impl Into<Bytes>,
        revision: Option<u64>,
    ) -> Result<u64, KvError> {
        match revision {
            Some(_) => self.kv_set(bucket, key, value.into(), revision).await,
            None => self.kv_first(bucket, key, value.into()).await,
        }
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn kv_delete(&self, bucket: &str, key: &str) -> Result<(), KvError> {
        let message = Outbound::new(subject_of(bucket, key)?, Bytes::new())
            .with_headers(Headers::new().with(OPERATION, "DEL"));
        self.publish(message).await?;
        self.notify(bucket).await
    }

    /// Tells each change of a bucket; read the bucket again when something comes, and after a reconnect.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn kv_notices(&self, bucket: &str) -> Result<CoreStream, ApiError> {
        self.subscribe_core(&notice_kv(bucket)).await
    }

    async fn kv_write(
        &self,
        bucket: &str,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<u64, KvError> {
        let revision = self.kv_set(bucket, key, value, expected).await?;
        self.notify(bucket).await?;
        Ok(revision)
    }

    /// Writes a key that does not exist. A deleted one leaves a marker with a revision of its own.
    async fn kv_first(&self, bucket: &str, key: &str, value: Bytes) -> Result<u64, KvError> {
        match self.kv_set(bucket, key, value.clone(), Some(0)).await {
            Err(KvError::Conflict { .. }) => {
                let subject = subject_of(bucket, key)?;
                let last = self.last_for_subject(&bucket_stream(bucket), &subject).await?;
                match last {
                    Some(marker) if is_deleted(&marker) => {
                        self.kv_set(bucket, key, value, Some(marker.sequence)).await
                    }
                    _ => Err(KvError::Conflict { bucket: bucket.to_owned(), key: key.to_owned() }),
                }
            }
            other => other,
        }
    }

    async fn kv_set(
        &self,
        bucket: &str,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<u64, KvError> {
        let mut message = Outbound::new(subject_of(bucket, key)?, value);
        message.expected_subject_sequence = expected;
        match self.publish(message).await {
            Err(PublishError::Conflict { .. }) => {
                Err(KvError::Conflict { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            other => Ok(other?.sequence),
        }
    }

    async fn notify(&self, bucket: &str) -> Result<(), KvError> {
        Ok(self.publish_core(&notice_kv(bucket), &Headers::new(), Bytes::new()).await?)
    }
}

fn subject_of(bucket: &str, key: &str) -> Result<String, KvError> {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=/".contains(&b))
    };
    if key.split('.').all(part) {
        Ok(format!("$KV.{bucket}.{key}"))
    } else {
        Err(KvError::BadKey { key: key.to_owned() })
    }
}

fn is_deleted(stored: &Stored) -> bool {
    stored.header(OPERATION).is_some()
}

fn entry_of(bucket: &str, stored: Stored) -> Option<KvEntry> {
    if is_deleted(&stored) {
        return None;
    }
    let key = stored.subject.strip_prefix("$KV.")?.strip_prefix(bucket)?.strip_prefix('.')?.to_owned();
    Some(KvEntry { key, value: stored.payload, revision: stored.sequence, written: stored.published })
}
