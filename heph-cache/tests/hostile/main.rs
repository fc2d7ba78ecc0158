//! What a remote cache may hold that nobody honest wrote. Each such thing is a miss with a reason: it is told once, nothing of it is in the
//! store, nothing lies anywhere else.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod cases;
mod offer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cases::{CONTENTS, Case, MANIFESTS};
use heph_cache::remote::signing::{generate, key_id};
use heph_cache::remote::{Caller, Remotes, Wanted, Warning};
use heph_cache::{Manifest, Store, StoreOptions};
use heph_common::Digest;
use heph_common::config::{Base, Config, parse};
use offer::{KEY, Offer, SMALL, large};

/// An answer of a directory takes so long at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine with a cache that is a directory.
struct Machine {
    place: tempfile::TempDir,
    store: Arc<Store>,
    remotes: Remotes,
    config: Config,
}

impl Machine {
    fn new(settings: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("home");
        let store = Arc::new(Store::open(&home, StoreOptions::default()).unwrap());
        let text = format!(
            "caches:\n  shared:\n    uri: file://{}/bucket\n    write: false\n{settings}",
            place.path().display()
        );
        let config = parse(".hephconfig", &text, Base::default()).unwrap().config;
        let remotes = Remotes::new(Arc::clone(&store), &home.join("state"), &config.uploads);
        Self {
            place,
            store,
            remotes,
            config,
        }
    }

    fn bucket(&self) -> PathBuf {
        self.place.path().join("bucket")
    }

    /// Asks for the result and for all its contents: what a run would use, and what it tells.
    fn ask(&self) -> (Option<Arc<Manifest>>, Vec<Digest>, Vec<Warning>) {
        let environment = BTreeMap::new();
        let session = self
            .remotes
            .session(&Caller {
                config: &self.config,
                environment: &environment,
                branch: &|| None,
                platform: offer::PLATFORM,
            })
            .unwrap();
        let (tell, told) = mpsc::channel();
        session.look_up(
            offer::KIND,
            KEY,
            |_| Ok(()),
            move |found| tell.send(found).unwrap(),
        );
        let found = told.recv_timeout(PATIENCE).unwrap();
        let missing = found.as_ref().map_or_else(Vec::new, |manifest| {
            let wanted = manifest.contents().map(|(content, executable)| Wanted {
                key: KEY,
                digest: content.digest,
                executable,
            });
            let (tell, told) = mpsc::channel();
            session.fetch(offer::KIND, wanted.collect(), move |missing| {
                tell.send(missing).unwrap()
            });
            told.recv_timeout(PATIENCE).unwrap()
        });
        (found, missing, session.take_warnings())
    }

    /// Everything outside the home, and what of the home is neither the store nor its state.
    fn surroundings(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        below(self.place.path(), &mut all);
        let home = self.place.path().join("home");
        all.retain(|path, _| {
            let own = ["cache", "state", "run"].map(|name| home.join(name));
            !own.iter().any(|own| path.starts_with(own))
        });
        all
    }
}

fn below(directory: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => below(&path, all),
            false => drop(all.insert(path.clone(), fs::read(path).unwrap_or_default())),
        }
    }
}

fn refused(cases: &[Case], of: fn(&Machine, &str, &str, &mut Offer)) {
    for (name, reason, make) in cases {
        let machine = Machine::new("");
        let mut offer = Offer::honest();
        make(&mut offer);
        of(&machine, name, reason, &mut offer);
    }
}

/// The one warning, which names the cache and the reason.
fn told(name: &str, reason: &str, warnings: &[Warning]) {
    assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
    let message = &warnings[0].message;
    assert!(
        message.starts_with("cache 'shared' has something that is not used: "),
        "{name}: {message}"
    );
    assert!(message.contains(reason), "{name}: {message}");
    let is_plain = |text: &str| text.chars().all(|c| !c.is_control());
    assert!(message.chars().count() < 600, "{name}: {message}");
    assert!(is_plain(message), "{name}: {message:?}");
}

#[test]
fn an_honest_offer_is_taken() {
    let machine = Machine::new("");
    Offer::honest().put(&machine.bucket());
    let before = machine.surroundings();
    let (found, missing, warnings) = machine.ask();
    assert_eq!(found.unwrap().outputs.len(), 3);
    assert_eq!((missing, warnings), (Vec::new(), Vec::new()));
    assert_eq!(machine.surroundings(), before);
    let digest = Digest::of(&large());
    assert!(machine.store.blob(&digest, false).unwrap().is_some());
}

#[test]
fn hostile_manifests_are_misses() {
    assert!(MANIFESTS.len() >= 30);
    refused(MANIFESTS, |machine, name, reason, offer| {
        offer.put(&machine.bucket());
        let before = machine.surroundings();
        let (found, _, warnings) = machine.ask();
        assert_eq!(found, None, "{name}");
        told(name, reason, &warnings);
        assert_eq!(machine.surroundings(), before, "{name}");
        let stats = machine.store.stats().unwrap();
        let held = (stats.actions, stats.inline_blobs, stats.file_blobs);
        assert_eq!(held, (0, 0, 0), "{name}");
    });
}

#[test]
fn hostile_contents_are_missing() {
    refused(CONTENTS, |machine, name, reason, offer| {
        offer.put(&machine.bucket());
        let before = machine.surroundings();
        let (found, missing, warnings) = machine.ask();
        assert!(found.is_some(), "{name}: its manifest is honest");
        let digest = Digest::of(&large());
        assert_eq!(missing, [digest], "{name}");
        told(name, reason, &warnings);
        assert_eq!(machine.surroundings(), before, "{name}: nothing is left of it");
        assert_eq!(machine.store.blob(&digest, false).unwrap(), None, "{name}");
    });
}

/// Two pairs of keys, and what a machine accepts: the first.
struct Keys {
    ours: String,
    theirs: String,
    public: String,
}

impl Keys {
    fn new(place: &Path) -> Self {
        let file = |name: &str| {
            let (text, public) = generate().unwrap();
            let path = place.join(name);
            fs::write(&path, text).unwrap();
            (path.display().to_string(), public)
        };
        let (ours, public) = file("ours");
        let (theirs, _) = file("theirs");
        Self { ours, theirs, public }
    }

    fn accepted(&self, more: &str) -> String {
        format!(
            "    signing:\n      publicKeys: [\"{}\"]\n      required: true\n{more}",
            self.public
        )
    }
}

#[test]
fn only_signatures_of_accepted_keys_over_this_very_manifest_count() {
    let place = tempfile::tempdir().unwrap();
    let keys = Keys::new(place.path());
    let signed = |by: &str| {
        let mut offer = Offer::honest();
        offer.sign(by);
        offer
    };
    let mut id = [0_u8; 32];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&keys.public[at * 2..at * 2 + 2], 16).unwrap();
    }
    let ours = key_id(&id);

    let refuse = |name: &str, reason: &str, settings: &str, offer: &Offer| {
        let machine = Machine::new(settings);
        offer.put(&machine.bucket());
        let before = machine.surroundings();
        let (found, _, warnings) = machine.ask();
        assert_eq!(found, None, "{name}");
        told(name, reason, &warnings);
        assert_eq!(machine.surroundings(), before, "{name}");
    };
    let accepted = keys.accepted("");
    let machine = Machine::new(&accepted);
    signed(&keys.ours).put(&machine.bucket());
    assert!(
        machine.ask().0.is_some(),
        "what is signed with the accepted key is taken"
    );

    refuse("unsigned", "it is not signed", &accepted, &Offer::honest());
    refuse(
        "another key",
        "which is not accepted",
        &accepted,
        &signed(&keys.theirs),
    );
    let mut forged = signed(&keys.theirs);
    forged.signature.as_mut().unwrap().0.clone_from(&ours);
    refuse(
        "another key under the accepted one's name",
        "is wrong",
        &accepted,
        &forged,
    );
    for revoked in [&keys.public, &ours] {
        let settings = keys.accepted(&format!("      revoked: [\"{revoked}\"]\n"));
        refuse(
            "a revoked key",
            "which is not accepted",
            &settings,
            &signed(&keys.ours),
        );
    }
    let mut other = signed(&keys.ours);
    other.manifest.address = "//another:target".to_owned();
    refuse("a signature over other bytes", "is wrong", &accepted, &other);
    let mut cut = signed(&keys.ours);
    cut.signature.as_mut().unwrap().1.truncate(63);
    refuse("a signature that is cut off", "is wrong", &accepted, &cut);
    // Rightly signed, but about something else: copied from its place by somebody who may write to the bucket.
    let elsewhere = |change: fn(&mut Offer)| {
        let mut offer = Offer::honest();
        change(&mut offer);
        offer.sign(&keys.ours);
        offer
    };
    let key = elsewhere(|offer| offer.manifest.key = vec![7; 32].into());
    refuse("of another key", "its key is", &accepted, &key);
    let scope = elsewhere(|offer| offer.scope = "pull-7".to_owned());
    refuse("of another scope", "its scope is", &accepted, &scope);
    let swapped = elsewhere(|offer| offer.contents[1].inline = Some(vec![b'x'; SMALL].into()));
    refuse(
        "with another content",
        "not what its digest says",
        &accepted,
        &swapped,
    );
}
