//! The helper image, made on the engine from dockmaster's own executable: no registry, no build, nothing to pull.
//!
//! The image holds the executable and, where it is not static, its loader and libraries as found on this host; an empty `/tmp`, and
//! the users root and nobody. There is no shell. Two tags name it: `dockmaster/helper:<version>` for the one in use, and one with the
//! executable's digest, by which it is found again, so that operators of different builds on one engine do not make it in turns.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::ImageSummary;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder};
use futures::StreamExt;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::connect::Client;
use super::error::{classify, within};
use crate::runtime::{Error, Refusal};

/// The repository of the helper image.
pub const REPOSITORY: &str = "dockmaster/helper";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The label with the digest of the executable inside.
pub const LABEL: &str = "dockmaster.helper";

const CALL: Duration = Duration::from_secs(30);
/// The longest that sending and unpacking the image may take.
const IMPORT: Duration = Duration::from_secs(300);
/// Images of other builds go only after this time: a container may be about to be made from them.
const KEEP_OTHERS_SECONDS: i64 = 3600;

/// How to come by the helper image. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HelperImage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    digest: OnceCell<String>,
    /// One at a time: a second would make the same.
    making: Mutex<()>,
}

#[derive(Debug)]
enum Source {
    Executable(PathBuf),
    Given(String),
}

impl HelperImage {
    /// Made from the executable of this process, even when its file was replaced since it started.
    pub fn own() -> Self {
        Self::from_executable(PathBuf::from(format!("/proc/{}/exe", std::process::id())))
    }

    /// Made from this `dockmaster` executable.
    pub fn from_executable(path: PathBuf) -> Self {
        Self::of(Source::Executable(path))
    }

    /// An image that somebody else put on the engine, whose entry point is `dockmaster helper`; never made, never pulled.
    pub fn given(reference: String) -> Self {
        Self::of(Source::Given(reference))
    }

    /// With what [`HelperImage::known`] gave an earlier process: where the executable is the same file, it is not read again for its digest.
    #[must_use]
    pub fn recall(self, known: &str) -> Self {
        if let (Source::Executable(path), Some((stamp, digest))) = (&self.0.source, known.split_once(' '))
            && stamp_of(path).is_ok_and(|of| of == stamp)
        {
            drop(self.0.digest.set(digest.to_owned()));
        }
        self
    }

    /// What is known of the executable, for [`HelperImage::recall`]; `None` for a given image.
    ///
    /// # Errors
    /// The executable cannot be read.
    pub async fn known(&self) -> Result<Option<String>, Error> {
        let Source::Executable(path) = &self.0.source else { return Ok(None) };
        let digest = self.digest(path).await?;
        Ok(stamp_of(path).ok().map(|stamp| format!("{stamp} {digest}")))
    }

    fn of(source: Source) -> Self {
        Self(Arc::new(Inner { source, digest: OnceCell::new(), making: Mutex::new(()) }))
    }

    /// Finds the image in a listing of the engine's images; its id.
    ///
    /// # Errors
    /// The executable cannot be read.
    pub async fn among(&self, images: &[ImageSummary]) -> Result<Option<String>, Error> {
        let (tag, digest) = match &self.0.source {
            Source::Executable(path) => {
                let digest = self.digest(path).await?;
                (content_tag(&digest), Some(digest))
            }
            Source::Given(reference) => (reference.clone(), None),
        };
        let named = |image: &&ImageSummary| image.id == tag || image.repo_tags.iter().any(|name| *name == tag || *name == format!("{tag}:latest"));
        // An image that was built on top of the helper has its label, and anyone can set a tag; only the helper has both.
        let ours = |image: &&ImageSummary| digest.as_ref().is_none_or(|digest| image.labels.get(LABEL) == Some(digest));
        Ok(images.iter().find(|image| named(image) && ours(image)).map(|image| image.id.clone()))
    }

    /// The id of the image on this engine, which makes it where it is missing. Safe to call from several operators at once.
    ///
    /// # Errors
    /// `Rejected` where it cannot be made: another architecture than the engine's, an executable that cannot be read, a given image that
    /// is not there; else what the engine says.
    pub async fn ensure(&self, client: &Client) -> Result<String, Error> {
        let _one = self.0.making.lock().await;
        let images = list(client).await?;
        let id = match (self.among(&images).await?, &self.0.source) {
            (Some(id), _) if images.iter().any(|image| image.id == id && image.repo_tags.contains(&reference())) => return Ok(id),
            (Some(id), _) => id,
            (None, Source::Executable(path)) => {
                same_architecture(client).await?;
                let id = import(client, path.clone(), &self.digest(path).await?).await?;
                remove_old(client, &images, &id).await;
                id
            }
            (None, Source::Given(name)) => {
                return Err(unavailable(format!(
                    "the image {name} given with --helper-image is not on the engine: load it there (`docker load`), or leave the option out"
                )));
            }
        };
        let options = TagImageOptionsBuilder::default().repo(REPOSITORY).tag(VERSION).build();
        within(CALL, client.docker.tag_image(&id, Some(options))).await?;
        Ok(id)
    }

    /// The digest of the executable, computed once.
    async fn digest(&self, executable: &Path) -> Result<String, Error> {
        let compute = || async {
            let path = executable.to_owned();
            blocking(move || {
                let mut hasher = Sha256::new();
                let mut buffer = vec![0; 1 << 16];
                let mut file = File::open(&path).map_err(|error| at(&path, error))?;
                loop {
                    match file.read(&mut buffer)? {
                        0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
                        read => hasher.update(&buffer[..read]),
                    }
                }
            })
            .await
        };
        self.0.digest.get_or_try_init(compute).await.cloned()
    }
}

/// What tells a file from every other one, and from itself after it was written to: file system, inode, size, and when it last changed.
fn stamp_of(path: &Path) -> io::Result<String> {
    let of = std::fs::metadata(path)?;
    Ok(format!("{}:{}:{}:{}.{:09}", of.dev(), of.ino(), of.size(), of.ctime(), of.ctime_nsec()))
}

/// The name under which people, and listings, find the helper image that is in use.
pub fn reference() -> String {
    format!("{REPOSITORY}:{VERSION}")
}

fn content_tag(digest: &str) -> String {
    format!("{REPOSITORY}:{}", digest.get(..12).unwrap_or(digest))
}

async fn list(client: &Client) -> Result<Vec<ImageSummary>, Error> {
    within(CALL, client.docker.list_images(Some(ListImagesOptionsBuilder::default().build()))).await
}

async fn same_architecture(client: &Client) -> Result<(), Error> {
    let version = within(CALL, client.docker.version()).await?;
    let engine = format!("{}/{}", version.os.unwrap_or_default(), version.arch.unwrap_or_default());
    let own = own_platform();
    if engine == own {
        return Ok(());
    }
    Err(unavailable(format!(
        "the helper image cannot be made: dockmaster is built for {own}, the engine runs {engine}; make the image from a dockmaster built for \
         {engine}, load it there and name it with --helper-image"
    )))
}

/// This executable's platform in Docker's words.
fn own_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("{}/{architecture}", std::env::consts::OS)
}

/// Sends the file system as it is packed; never held in memory as a whole.
async fn import(client: &Client, executable: PathBuf, digest: &str) -> Result<String, Error> {
    let parts = blocking({
        let executable = executable.clone();
        move || Parts::of(&executable)
    })
    .await?;
    let mut changes = vec![r#"ENTRYPOINT ["/dockmaster","helper"]"#.to_owned(), format!("LABEL {LABEL}={digest}")];
    if let Some(path) = parts.library_path() {
        changes.push(format!("ENV LD_LIBRARY_PATH={path}"));
    }
    let tag = content_tag(digest);
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(REPOSITORY).tag(tag.rsplit(':').next().unwrap_or_default()).changes(changes).build();
    let (writer, reader) = tokio::io::duplex(1 << 18);
    let packing = blocking(move || parts.pack(SyncIoBridge::new(writer)));
    let body = bollard::body_try_stream(ReaderStream::with_capacity(reader, 1 << 16));
    let mut replies = client.docker.create_image(Some(options), Some(body), None);
    let sending = async {
        let mut id = None;
        while let Some(reply) = replies.next().await {
            id = reply.map_err(classify)?.status.filter(|status| status.starts_with("sha256:")).or(id);
        }
        id.ok_or_else(|| Error::Unknown("the engine did not say which image it made".to_owned()))
    };
    let (packed, sent) = tokio::time::timeout(IMPORT, futures::future::join(packing, sending))
        .await
        .map_err(|_| Error::Unknown(format!("the helper image was not made within {} s", IMPORT.as_secs())))?;
    // The engine's refusal breaks the packing, so it is the one to report.
    let id = sent?;
    packed?;
    Ok(id)
}

/// Removes what earlier builds left, unless a container uses it; failing that, it stays.
async fn remove_old(client: &Client, images: &[ImageSummary], own: &str) {
    let before = Timestamp::now().as_second() - KEEP_OTHERS_SECONDS;
    let old = images.iter().filter(|image| image.id != own && image.labels.contains_key(LABEL) && image.created < before);
    for tag in old.flat_map(|image| &image.repo_tags).filter(|tag| tag.starts_with(&format!("{REPOSITORY}:"))) {
        if let Err(error) = within(CALL, client.docker.remove_image(tag, None::<RemoveImageOptions>, None)).await {
            tracing::debug!(image = %tag, %error, "an old helper image stays");
        }
    }
}

/// What the image is made from.
#[derive(Debug)]
struct Parts {
    executable: PathBuf,
    /// The loader and the libraries, by the path at which the executable looks for them; empty for a static one.
    libraries: BTreeSet<PathBuf>,
}

impl Parts {
    fn of(executable: &Path) -> io::Result<Self> {
        let mut libraries = BTreeSet::new();
        if let Some(loader) = interpreter(executable).map_err(|error| at(executable, error))? {
            libraries.extend(needed(&loader, executable)?);
            // Up to glibc 2.33 names are resolved by libraries that are loaded when first used, and so are not listed.
            let beside: BTreeSet<_> = libraries.iter().filter(|library| library.ends_with("libc.so.6")).filter_map(|library| library.parent()).collect();
            let resolvers: Vec<_> =
                beside.iter().flat_map(|folder| ["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"].map(|name| folder.join(name))).collect();
            libraries.extend(resolvers.into_iter().filter(|library| library.exists()));
            libraries.insert(loader);
        }
        Ok(Self { executable: executable.to_owned(), libraries })
    }

    /// The folders of the libraries; `None` for a static executable.
    fn library_path(&self) -> Option<String> {
        let folders: BTreeSet<_> = self.libraries.iter().filter_map(|library| library.parent()).map(|folder| folder.display().to_string()).collect();
        (!folders.is_empty()).then(|| folders.into_iter().collect::<Vec<_>>().join(":"))
    }

    /// Writes the file system as a tar archive.
    fn pack(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        let mut folders = BTreeSet::from([PathBuf::from("/etc")]);
        folders.extend(self.libraries.iter().flat_map(|library| library.ancestors().skip(1)).map(Path::to_owned));
        folders.remove(Path::new("/"));
        for folder in folders {
            append(&mut archive, tar::EntryType::Directory, &folder, 0o755, 0, io::empty())?;
        }
        append(&mut archive, tar::EntryType::Directory, Path::new("/tmp"), 0o1777, 0, io::empty())?;
        let passwd = "root:x:0:0:root:/:/dockmaster\nnobody:x:65534:65534:nobody:/:/dockmaster\n";
        let group = "root:x:0:\nnogroup:x:65534:\n";
        for (path, text) in [("/etc/passwd", passwd), ("/etc/group", group)] {
            append(&mut archive, tar::EntryType::Regular, Path::new(path), 0o644, text.len() as u64, text.as_bytes())?;
        }
        let executable = (Path::new("/dockmaster"), self.executable.as_path());
        for (path, source) in std::iter::once(executable).chain(self.libraries.iter().map(|library| (library.as_path(), library.as_path()))) {
            let file = File::open(source).map_err(|error| at(source, error))?;
            let size = file.metadata()?.len();
            append(&mut archive, tar::EntryType::Regular, path, 0o755, size, file)?;
        }
        archive.into_inner()?.flush()
    }
}

/// Appends an entry that depends on nothing but its content, so that the same executable gives the same layer.
fn append(archive: &mut tar::Builder<impl Write>, kind: tar::EntryType, path: &Path, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, path.strip_prefix("/").unwrap_or(path), content)
}

/// The loader that an ELF executable names; `None` for a static one.
fn interpreter(executable: &Path) -> io::Result<Option<PathBuf>> {
    const LOADER: u32 = 3;
    let mut file = File::open(executable)?;
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a 64-bit little-endian ELF executable"));
    }
    let (table, size, count) = (number(&header[0x20..0x28]), number(&header[0x36..0x38]), number(&header[0x38..0x3a]));
    for index in 0..count {
        let mut segment = [0; 56];
        file.seek(SeekFrom::Start(table + index * size))?;
        file.read_exact(&mut segment)?;
        if number(&segment[..4]) == u64::from(LOADER) {
            let mut name = String::new();
            file.seek(SeekFrom::Start(number(&segment[0x08..0x10])))?;
            file.take(number(&segment[0x20..0x28])).read_to_string(&mut name)?;
            return Ok(Some(PathBuf::from(name.trim_end_matches('\0'))));
        }
    }
    Ok(None)
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The libraries that the loader finds for an executable, by `LOADER --list EXECUTABLE`.
fn needed(loader: &Path, executable: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let output = Command::new(loader).arg("--list").arg(executable).output().map_err(|error| at(loader, error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("not found") {
        let problem = format!("{} --list {}: {}{}", loader.display(), executable.display(), text, String::from_utf8_lossy(&output.stderr));
        return Err(io::Error::other(problem));
    }
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Error> {
    let result = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).and_then(|result| result);
    result.map_err(|error| unavailable(format!("the helper image cannot be made from dockmaster's own executable: {error}; name one with --helper-image")))
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn unavailable(message: String) -> Error {
    Error::Rejected { reason: Refusal::Other, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(parts: &Parts) -> Vec<(String, u32, u64)> {
        let mut bytes = Vec::new();
        parts.pack(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries.map(|entry| (format!("/{}", entry.path().unwrap().display()), entry.header().mode().unwrap(), entry.size())).collect()
    }

    #[test]
    fn the_image_holds_the_executable_and_what_loads_it() {
        // This test's own executable is linked like dockmaster is.
        let executable = std::env::current_exe().unwrap();
        let parts = Parts::of(&executable).unwrap();
        let entries = packed(&parts);
        let size = |path: &str| entries.iter().find(|(name, ..)| name == path).map(|(_, _, size)| *size);
        assert_eq!(size("/dockmaster"), Some(executable.metadata().unwrap().len()));
        assert!(entries.contains(&("/tmp".to_owned(), 0o1777, 0)), "{entries:?}");
        if let Some(loader) = interpreter(&executable).unwrap() {
            assert_eq!(size(&loader.display().to_string()), Some(loader.metadata().unwrap().len()));
            assert!(parts.library_path().is_some_and(|path| !path.is_empty()));
        }
        let position = |path: &str| entries.iter().position(|(name, ..)| name == path);
        for (name, ..) in &entries {
            let folder = Path::new(name).parent().unwrap().display().to_string();
            assert!(folder == "/" || position(&folder) < position(name), "{folder} comes before {name}");
        }
    }

    #[test]
    fn the_same_executable_gives_the_same_archive() {
        let parts = Parts { executable: PathBuf::from("/proc/self/exe"), libraries: BTreeSet::new() };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        parts.pack(&mut first).unwrap();
        parts.pack(&mut second).unwrap();
        assert!(first == second);
    }

    #[test]
    fn a_static_executable_needs_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        std::fs::write(file.path(), &elf).unwrap();
        let parts = Parts::of(file.path()).unwrap();
        assert!(parts.libraries.is_empty() && parts.library_path().is_none());
        assert_eq!(packed(&parts).iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["/etc", "/tmp", "/etc/passwd", "/etc/group", "/dockmaster"]);
    }

    #[test]
    fn what_is_no_executable_is_said() {
        let error = Parts::of(Path::new("/etc/passwd")).unwrap_err().to_string();
        assert!(error.starts_with("/etc/passwd: it is not a 64-bit"), "{error}");
    }

    #[tokio::test]
    async fn what_was_known_of_an_executable_holds_for_as_long_as_it_is_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dockmaster");
        std::fs::write(&path, "one").unwrap();
        let helper = || HelperImage::from_executable(path.clone());
        let known = helper().known().await.unwrap().unwrap();
        let (stamp, digest) = known.split_once(' ').unwrap();
        let told = helper().recall(&format!("{stamp} told"));
        assert_eq!(told.known().await.unwrap().unwrap(), format!("{stamp} told"), "it was read all the same");
        let other = folder.path().join("other");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let exchanged = helper().recall(&known).known().await.unwrap().unwrap();
        assert!(!exchanged.contains(digest), "{exchanged} is of the file of before");
        assert_eq!(HelperImage::given("helper:1".to_owned()).recall(&known).known().await.unwrap(), None);
    }

    #[tokio::test]
    async fn only_an_image_with_our_tag_and_our_label_is_ours() {
        let helper = HelperImage::from_executable(PathBuf::from("/etc/passwd"));
        let digest = helper.digest(Path::new("/etc/passwd")).await.unwrap();
        let image = |id: &str, tag: &str, label: &str| ImageSummary {
            id: id.to_owned(),
            repo_tags: vec![tag.to_owned()],
            labels: [(LABEL.to_owned(), label.to_owned())].into(),
            ..ImageSummary::default()
        };
        let tag = content_tag(&digest);
        let others = [image("built-on-it", "me/mine:1", &digest), image("tagged-by-hand", &tag, "another")];
        assert_eq!(helper.among(&others).await, Ok(None));
        assert_eq!(helper.among(&[&others[..], &[image("it", &tag, &digest)]].concat()).await, Ok(Some("it".to_owned())));
        let given = HelperImage::given("registry.example/helper".to_owned());
        assert_eq!(given.among(&[image("that", "registry.example/helper:latest", "")]).await, Ok(Some("that".to_owned())));
    }
}
