//! The ledger in a file: SQLite in WAL mode, one connection that writes and a few that read.
//!
//! **Invariant:** every change is one transaction, begun `IMMEDIATE`, so that what it read is still so when it writes. The one writing connection
//! is the queue of the writers: none of them ever meets a locked database.

use std::fmt::Display;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous};
use sqlx::{Row, Sqlite, Transaction};

use super::grant::{self, Claimant};
use super::*;
use crate::resource::Kind;

/// The file in the state directory.
pub const FILE: &str = "ledger.db";

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The ledger of a state directory.
#[derive(Debug)]
pub struct SqliteLedger {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteLedger {
    /// Opens the ledger of this directory, which exists, for the one operator that writes to it; makes it where there is none.
    ///
    /// # Errors
    /// `TooNew` and `Corrupt` leave the file as it is; whoever gets them must not go on.
    pub async fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        // The journal files beside it get the mode of this one.
        let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        made.and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600))).map_err(|e| LedgerError::store("make its file", e))?;
        let options = options(&path).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Normal);
        let writer = pool(options.clone(), 1).await.map_err(|e| damage(&path, "open its file", e))?;
        check(&writer, &path).await?;
        MIGRATIONS.run(&writer).await.map_err(|e| LedgerError::store("bring its schema up to date", e))?;
        let readers = pool(options, 4).await.map_err(|e| damage(&path, "open its file", e))?;
        let ledger = Self { writer, readers };
        ledger.tidy().await?;
        Ok(ledger)
    }

    /// Opens the ledger of this directory for reading, whether an operator runs or not. Writing to it fails.
    ///
    /// # Errors
    /// `Absent` when there is none; else as `open`.
    pub async fn open_read_only(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let readers = read_only(&path, &path).await?;
        let found = schema(&readers).await.map_err(|e| damage(&path, "read its schema", e))?;
        check_version(found)?;
        if found == 0 {
            return Err(LedgerError::Absent { path: path.display().to_string() });
        }
        Ok(Self { writer: readers.clone(), readers })
    }

    /// Reads all of the ledger of this directory and finds it sound. An operator may run meanwhile.
    ///
    /// # Errors
    /// `Absent`, `Corrupt`, `TooNew`.
    pub async fn examine(dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        verify(&path, &path).await
    }

    /// Writes what is still in the journal file to the ledger's, and closes both.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// The journal of objects that are gone ends some day: all but the latest entries.
    async fn tidy(&self) -> Result<()> {
        sqlx::query("DELETE FROM journal WHERE id <= (SELECT MAX(id) FROM journal) - 10000 AND object NOT IN (SELECT object FROM objects)")
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(failed("tidy up"))
    }

    async fn begin(&self, doing: &'static str) -> Result<Transaction<'static, Sqlite>> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed(doing))
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    // In KiB, for each connection: the system keeps the file in memory anyway.
    SqliteConnectOptions::new().filename(path).foreign_keys(true).busy_timeout(Duration::from_secs(30)).pragma("cache_size", "-256")
}

/// Connections stay open: a file that somebody puts in the place of this one is not opened by the way.
async fn pool(options: SqliteConnectOptions, connections: u32) -> sqlx::Result<SqlitePool> {
    let pool = SqlitePoolOptions::new().max_connections(connections).idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    pool.acquire_timeout(Duration::from_secs(60)).connect_with(options).await
}

/// A file that is there, for reading. Errors call it `named`.
async fn read_only(path: &Path, named: &Path) -> Result<SqlitePool> {
    if !path.exists() {
        return Err(LedgerError::Absent { path: named.display().to_string() });
    }
    pool(options(path).read_only(true), 4).await.map_err(|e| damage(named, "open its file", e))
}

/// Writes a consistent copy of a directory's ledger to this file, which is missing or empty, while others read and write.
pub(super) async fn copy_into(dir: &Path, to: &Path) -> Result<()> {
    let path = dir.join(FILE);
    let source = read_only(&path, &path).await?;
    check(&source, &path).await?;
    let done = sqlx::query("VACUUM INTO ?").bind(to.to_string_lossy().into_owned()).execute(&source).await;
    source.close().await;
    done.map(drop).map_err(failed("copy itself"))
}

/// Refuses a file that is no whole ledger of a version known here. Errors call it `named`.
pub(super) async fn verify(file: &Path, named: &Path) -> Result<()> {
    let source = read_only(file, named).await?;
    let verdict = match check(&source, named).await {
        Ok(()) => match schema(&source).await.map_err(|e| damage(named, "read its schema", e)) {
            Ok(0) => Err(LedgerError::Corrupt { path: named.display().to_string(), why: "it holds no ledger".to_owned() }),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    source.close().await;
    verdict
}

/// Runs one statement behind the ledger's back, for tests of what it does then; answers with the first text of the first row.
#[cfg(test)]
pub(super) async fn tamper(dir: &Path, statement: &'static str) -> Option<String> {
    let pool = pool(options(&dir.join(FILE)), 1).await.unwrap();
    let row = sqlx::query(statement).fetch_optional(&pool).await.unwrap();
    pool.close().await;
    row.map(|row| row.get(0))
}

/// Refuses a file that is damaged or too new.
async fn check(pool: &SqlitePool, path: &Path) -> Result<()> {
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(pool).await.map_err(|e| damage(path, "check its file", e))?;
    if found != "ok" {
        return Err(LedgerError::Corrupt { path: path.display().to_string(), why: found });
    }
    check_version(schema(pool).await.map_err(|e| damage(path, "read its schema", e))?)
}

fn check_version(found: i64) -> Result<()> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    if found > known { Err(LedgerError::TooNew { found, known }) } else { Ok(()) }
}

/// The version of the schema; 0 for an empty file.
async fn schema(pool: &SqlitePool) -> sqlx::Result<i64> {
    let begun: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')").fetch_one(pool).await?;
    if !begun {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations").fetch_one(pool).await
}

/// `Corrupt` where SQLite says so (SQLITE_CORRUPT 11, SQLITE_NOTADB 26), else the failure itself.
fn damage(path: &Path, doing: &'static str, error: sqlx::Error) -> LedgerError {
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<u32>().ok());
    match code.map(|code| code & 0xff) {
        Some(11 | 26) => LedgerError::Corrupt { path: path.display().to_string(), why: error.to_string() },
        Some(_) | None => LedgerError::store(doing, error),
    }
}

fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> LedgerError {
    move |error| LedgerError::store(doing, error)
}

/// `Workspace/alice/shop`.
fn key(object: &ObjectRef) -> String {
    format!("{}/{}/{}", object.kind, object.ns(), object.name)
}

fn object(key: &str) -> sqlx::Result<ObjectRef> {
    let mut parts = key.splitn(3, '/');
    let kind: Option<Kind> = parts.next().and_then(|kind| kind.parse().ok());
    match (kind, parts.next(), parts.next()) {
        (Some(kind), Some(namespace), Some(name)) => Ok(ObjectRef::new(kind, namespace, name)),
        (_, _, _) => Err(sqlx::Error::Decode(format!("`{key}` is no key of an object").into())),
    }
}

fn json(value: &impl Serialize) -> sqlx::Result<String> {
    serde_json::to_string(value).map_err(|e| sqlx::Error::Encode(e.into()))
}

fn parsed<T: DeserializeOwned>(text: &str) -> sqlx::Result<T> {
    serde_json::from_str(text).map_err(|e| sqlx::Error::Decode(e.into()))
}

fn instant(text: &str) -> sqlx::Result<Timestamp> {
    text.parse().map_err(|e: jiff::Error| sqlx::Error::Decode(e.into()))
}

fn integer<T: TryFrom<i64, Error: Display>>(value: i64) -> sqlx::Result<T> {
    T::try_from(value).map_err(|e| sqlx::Error::Decode(format!("{value}: {e}").into()))
}

fn record_of(row: &SqliteRow) -> sqlx::Result<Record> {
    let admission = Admission { uid: Uid(row.try_get("uid")?), generation: integer(row.try_get("generation")?)?, created: instant(row.try_get("created")?)? };
    let tombstone: Option<&str> = row.try_get("tombstone")?;
    Ok(Record {
        object: object(row.try_get("object")?)?,
        admission,
        text: row.try_get("text")?,
        digest: row.try_get("digest")?,
        origin: parsed(row.try_get("origin")?)?,
        tombstone: tombstone.map(parsed).transpose()?,
    })
}

fn lease_of(row: &SqliteRow) -> sqlx::Result<Lease> {
    let (kind, name, value): (&str, String, String) = (row.try_get("kind")?, row.try_get("name")?, row.try_get("value")?);
    let grant = match kind {
        "port" => Grant::Port { name, host: value.parse().map_err(|_| sqlx::Error::Decode(format!("`{value}` is no port").into()))? },
        _ => Grant::Subnet { network: name, cidr: value },
    };
    Ok(Lease { object: object(row.try_get("object")?)?, uid: Uid(row.try_get("uid")?), grant, fixed: row.try_get("fixed")? })
}

/// The columns `kind`, `name` and `value` of a lease; `None` for what was refused.
fn columns(grant: &Grant) -> Option<(&'static str, &str, String)> {
    match grant {
        Grant::Port { name, host } => Some(("port", name, host.to_string())),
        Grant::Subnet { network, cidr } => Some(("subnet", network, cidr.clone())),
        Grant::Refused { .. } => None,
    }
}

const RECORD: &str = "SELECT * FROM objects WHERE object = ?";

async fn known(executor: impl sqlx::SqliteExecutor<'_>, object: &ObjectRef) -> sqlx::Result<Option<Record>> {
    sqlx::query(RECORD).bind(key(object)).fetch_optional(executor).await?.as_ref().map(record_of).transpose()
}

async fn write_record(tx: &mut Transaction<'_, Sqlite>, record: &Record) -> Result<()> {
    let generation = i64::try_from(record.admission.generation).unwrap_or(i64::MAX);
    let origin = json(&record.origin).map_err(failed("write the record"))?;
    let written = sqlx::query(
        "INSERT INTO objects (object, uid, generation, created, text, digest, origin, tombstone) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)
         ON CONFLICT (object) DO UPDATE SET generation = excluded.generation, text = excluded.text, digest = excluded.digest,
             origin = excluded.origin, tombstone = NULL",
    )
    .bind(key(&record.object))
    .bind(&record.admission.uid.0)
    .bind(generation)
    .bind(record.admission.created.to_string())
    .bind(&record.text)
    .bind(&record.digest)
    .bind(origin)
    .execute(&mut **tx)
    .await;
    match written {
        Ok(_) => Ok(()),
        Err(error) if error.as_database_error().is_some_and(|e| e.is_unique_violation()) => {
            Err(LedgerError::Identity { object: record.object.clone(), uid: record.admission.uid.clone() })
        }
        Err(error) => Err(LedgerError::store("admit an object", error)),
    }
}

async fn read_leases(executor: impl sqlx::SqliteExecutor<'_>, of: Option<&Uid>) -> sqlx::Result<Vec<Lease>> {
    let query = match of {
        Some(uid) => sqlx::query("SELECT * FROM leases WHERE uid = ?").bind(&uid.0),
        None => sqlx::query("SELECT * FROM leases ORDER BY uid, kind, name"),
    };
    query.fetch_all(executor).await?.iter().map(lease_of).collect()
}

async fn read_facts(executor: impl sqlx::SqliteExecutor<'_>, uid: &Uid) -> sqlx::Result<serde_json::Value> {
    let text: Option<String> = sqlx::query_scalar("SELECT facts FROM facts WHERE uid = ?").bind(&uid.0).fetch_optional(executor).await?;
    text.as_deref().map_or_else(|| Ok(serde_json::Value::Object(serde_json::Map::new())), parsed)
}

fn facts_of(value: &serde_json::Value) -> sqlx::Result<Facts> {
    Facts::deserialize(value).map_err(|e| sqlx::Error::Decode(e.into()))
}

/// The rows of people's history. A row that a newer version wrote and this one cannot read is left out: it stops nobody.
fn readable<T: DeserializeOwned>(rows: Vec<String>) -> Vec<T> {
    rows.iter().rev().filter_map(|text| serde_json::from_str(text).ok()).collect()
}

/// Every adapter's method is one async block; its database errors say what was being done.
fn doing<'a, T, F>(what: &'static str, work: F) -> BoxFuture<'a, Result<T>>
where
    F: Future<Output = sqlx::Result<T>> + Send + 'a,
{
    Box::pin(async move { work.await.map_err(failed(what)) })
}

impl Ledger for SqliteLedger {
    fn records(&self) -> BoxFuture<'_, Result<Vec<Record>>> {
        doing("read its records", async {
            sqlx::query("SELECT * FROM objects ORDER BY object").fetch_all(&self.readers).await?.iter().map(record_of).collect()
        })
    }

    fn admit<'a>(&'a self, document: &'a Document, fresh: Admission, recovered: Option<Admission>) -> BoxFuture<'a, Result<Admitted>> {
        let error = failed("admit an object");
        Box::pin(async move {
            let before = known(&self.readers, &document.object).await.map_err(&error)?;
            let (admitted, change) = book::admit(before.as_ref(), document, fresh.clone(), recovered.clone());
            if change.is_none() {
                return Ok(admitted);
            }
            let mut tx = self.begin("admit an object").await?;
            let before = known(&mut *tx, &document.object).await.map_err(&error)?;
            let (admitted, change) = book::admit(before.as_ref(), document, fresh, recovered);
            if let Some(record) = change {
                write_record(&mut tx, &record).await?;
            }
            tx.commit().await.map_err(&error)?;
            Ok(admitted)
        })
    }

    fn grant<'a>(&'a self, object: &'a ObjectRef, uid: &'a Uid, claims: &'a [Claim], held: &'a [Grant], pools: &'a Pools) -> BoxFuture<'a, Result<Granted>> {
        let who = Claimant { object, uid };
        doing("grant ports and subnets", async move {
            let mine = read_leases(&self.readers, Some(uid)).await?;
            if let Some(granted) = grant::settled(who, claims, held, pools, &mine) {
                return Ok(granted);
            }
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            let leases = read_leases(&mut *tx, None).await?;
            let outcome = grant::grant(who, claims, held, pools, &leases);
            for lost in &outcome.granted.displaced {
                let Some((kind, name, _)) = columns(&lost.grant) else { continue };
                sqlx::query("DELETE FROM leases WHERE uid = ? AND kind = ? AND name = ?").bind(&lost.uid.0).bind(kind).bind(name).execute(&mut *tx).await?;
            }
            sqlx::query("DELETE FROM leases WHERE uid = ?").bind(&uid.0).execute(&mut *tx).await?;
            for lease in &outcome.leases {
                let Some((kind, name, value)) = columns(&lease.grant) else { continue };
                let insert = sqlx::query("INSERT INTO leases (uid, object, kind, name, value, fixed) VALUES (?, ?, ?, ?, ?, ?)");
                insert.bind(&uid.0).bind(key(object)).bind(kind).bind(name).bind(value).bind(lease.fixed).execute(&mut *tx).await?;
            }
            tx.commit().await?;
            Ok(outcome.granted)
        })
    }

    fn revoke<'a>(&'a self, uid: &'a Uid, port: u16) -> BoxFuture<'a, Result<()>> {
        doing("revoke a port", async move {
            let delete = sqlx::query("DELETE FROM leases WHERE uid = ? AND kind = 'port' AND value = ?");
            delete.bind(&uid.0).bind(port.to_string()).execute(&self.writer).await.map(drop)
        })
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<Lease>>> {
        doing("read its leases", read_leases(&self.readers, None))
    }

    fn facts<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Facts>> {
        doing("read facts", async move { facts_of(&read_facts(&self.readers, uid).await?) })
    }

    fn record<'a>(&'a self, uid: &'a Uid, facts: &'a [Fact]) -> BoxFuture<'a, Result<()>> {
        doing("record facts", async move {
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            let before = read_facts(&mut *tx, uid).await?;
            let mut known = facts_of(&before)?;
            facts.iter().for_each(|fact| known.apply(fact));
            // Fields that a newer version wrote stay.
            let mut after = before.clone();
            if let (Some(after), Ok(serde_json::Value::Object(known))) = (after.as_object_mut(), serde_json::to_value(&known)) {
                after.extend(known);
            }
            if after != before {
                let upsert = sqlx::query("INSERT INTO facts (uid, facts) VALUES (?, ?) ON CONFLICT (uid) DO UPDATE SET facts = excluded.facts");
                upsert.bind(&uid.0).bind(after.to_string()).execute(&mut *tx).await?;
            }
            tx.commit().await
        })
    }

    fn bury<'a>(&'a self, object: &'a ObjectRef, tombstone: &'a Tombstone) -> BoxFuture<'a, Result<()>> {
        let error = failed("write a tombstone");
        Box::pin(async move {
            let update = sqlx::query("UPDATE objects SET tombstone = ? WHERE object = ? AND uid = ?");
            let text = json(tombstone).map_err(&error)?;
            let done = update.bind(text).bind(key(object)).bind(&tombstone.uid.0).execute(&self.writer).await.map_err(&error)?;
            if done.rows_affected() == 0 {
                return Err(LedgerError::Unknown { object: object.clone(), uid: tombstone.uid.clone() });
            }
            Ok(())
        })
    }

    fn release<'a>(&'a self, object: &'a ObjectRef) -> BoxFuture<'a, Result<()>> {
        doing("release an object", async move {
            let key = key(object);
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            for statement in [
                "DELETE FROM facts WHERE uid IN (SELECT uid FROM objects WHERE object = ?1 UNION SELECT uid FROM leases WHERE object = ?1)",
                "DELETE FROM leases WHERE object = ?1 OR uid IN (SELECT uid FROM objects WHERE object = ?1)",
                "DELETE FROM statuses WHERE object = ?1",
                "DELETE FROM objects WHERE object = ?1",
            ] {
                sqlx::query(statement).bind(&key).execute(&mut *tx).await?;
            }
            tx.commit().await
        })
    }

    fn save_status<'a>(&'a self, object: &'a ObjectRef, status: &'a serde_json::Value, at: Timestamp) -> BoxFuture<'a, Result<()>> {
        doing("save a status", async move {
            let upsert = "INSERT INTO statuses (object, status, at) VALUES (?, ?, ?)
                 ON CONFLICT (object) DO UPDATE SET status = excluded.status, at = excluded.at";
            sqlx::query(upsert).bind(key(object)).bind(status.to_string()).bind(at.to_string()).execute(&self.writer).await.map(drop)
        })
    }

    fn statuses(&self) -> BoxFuture<'_, Result<BTreeMap<ObjectRef, (serde_json::Value, Timestamp)>>> {
        doing("read statuses", async {
            let rows: Vec<(String, String, String)> = sqlx::query_as("SELECT object, status, at FROM statuses").fetch_all(&self.readers).await?;
            rows.iter().map(|(key, status, at)| Ok((object(key)?, (parsed(status)?, instant(at)?)))).collect()
        })
    }

    fn event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<()>> {
        doing("write an event", async move {
            let key = event.object.as_ref().map(key);
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            let latest: Option<(i64, String)> =
                sqlx::query_as("SELECT id, event FROM events WHERE object IS ? ORDER BY id DESC LIMIT 1").bind(&key).fetch_optional(&mut *tx).await?;
            let repeated = latest.and_then(|(id, text)| parsed(&text).ok().and_then(|latest| book::counted_up(&latest, event)).map(|both| (id, both)));
            if let Some((id, _)) = &repeated {
                sqlx::query("DELETE FROM events WHERE id = ?").bind(id).execute(&mut *tx).await?;
            }
            let text = json(repeated.as_ref().map_or(event, |(_, both)| both))?;
            let id = sqlx::query("INSERT INTO events (object, event) VALUES (?, ?)").bind(&key).bind(text).execute(&mut *tx).await?.last_insert_rowid();
            // Looking for the oldest costs more than writing, so that it is done now and then; readers stop at the limit by themselves.
            if id % 256 == 0 {
                let trim = sqlx::query("DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)");
                trim.bind(EVENTS_KEPT).execute(&mut *tx).await?;
            }
            tx.commit().await
        })
    }

    fn events<'a>(&'a self, object: Option<&'a ObjectRef>, limit: u32) -> BoxFuture<'a, Result<Vec<Event>>> {
        doing("read events", async move {
            let query = match object {
                Some(object) => sqlx::query_scalar("SELECT event FROM events WHERE object = ? ORDER BY id DESC LIMIT ?").bind(key(object)),
                None => sqlx::query_scalar("SELECT event FROM events ORDER BY id DESC LIMIT ?"),
            };
            Ok(readable(query.bind(limit.min(EVENTS_KEPT)).fetch_all(&self.readers).await?))
        })
    }

    fn journal<'a>(&'a self, entry: &'a JournalEntry) -> BoxFuture<'a, Result<()>> {
        doing("write the journal", async move {
            let key = key(&entry.object);
            let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT INTO journal (object, entry) VALUES (?, ?)").bind(&key).bind(json(entry)?).execute(&mut *tx).await?;
            let trim = "DELETE FROM journal WHERE object = ?1
                 AND id <= (SELECT id FROM journal WHERE object = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
            sqlx::query(trim).bind(&key).bind(JOURNAL_KEPT).execute(&mut *tx).await?;
            tx.commit().await
        })
    }

    fn journal_of<'a>(&'a self, object: &'a ObjectRef, limit: u32) -> BoxFuture<'a, Result<Vec<JournalEntry>>> {
        doing("read the journal", async move {
            let query = sqlx::query_scalar("SELECT entry FROM journal WHERE object = ? ORDER BY id DESC LIMIT ?");
            Ok(readable(query.bind(key(object)).bind(limit).fetch_all(&self.readers).await?))
        })
    }

    fn setting<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        doing("read a setting", async move { sqlx::query_scalar("SELECT value FROM settings WHERE key = ?").bind(key).fetch_optional(&self.readers).await })
    }

    fn set_setting<'a>(&'a self, key: &'a str, value: Option<&'a str>) -> BoxFuture<'a, Result<()>> {
        doing("write a setting", async move {
            let query = match value {
                Some(value) => {
                    let upsert = "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                    sqlx::query(upsert).bind(key).bind(value)
                }
                None => sqlx::query("DELETE FROM settings WHERE key = ?").bind(key),
            };
            query.execute(&self.writer).await.map(drop)
        })
    }
}
