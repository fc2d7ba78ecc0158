//! A real program is built once and sent to every kind of remote cache, on real servers. Another machine has it from each of them.

use heph_tests::servers::{Azurite, GoogleFront, Memcached, Nginx, RcloneS3, Redis, SeaweedFs, WebDav};
use heph_tests::{Environment, needs};

use crate::lua::lua;

/// One cache: its name, its entry in `caches:`, and the variables that it needs.
struct Kind {
    name: &'static str,
    entry: String,
    variables: Vec<(&'static str, String)>,
}

impl Kind {
    fn new(name: &'static str, uri: &str, settings: &str) -> Self {
        Self {
            name,
            entry: format!("  {name}:\n    uri: {uri}\n{settings}"),
            variables: Vec::new(),
        }
    }

    fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }
}

/// Servers live as long as this.
#[derive(Default)]
struct Servers {
    kinds: Vec<Kind>,
    running: Vec<Box<dyn std::any::Any>>,
}

impl Servers {
    fn add(&mut self, is_there: bool, name: &str, start: impl FnOnce(&mut Self) -> Kind) {
        let test = format!("backends_build::another_machine_builds_lua_without_executing_anything, {name}");
        if needs(&test, "its server (tests/setup, tests/setup-deep)", is_there) {
            let kind = start(self);
            self.kinds.push(kind);
        }
    }

    fn keep(&mut self, server: impl std::any::Any) {
        self.running.push(Box::new(server));
    }
}

fn all() -> Servers {
    let mut servers = Servers::default();
    let (key, secret) = SeaweedFs::KEY;
    let s3 = |name, endpoint: &str| {
        Kind::new(
            name,
            "s3://lua/prefix",
            &format!("    endpoint: {endpoint}\n    region: us-east-1\n"),
        )
        .with("AWS_ACCESS_KEY_ID", key)
        .with("AWS_SECRET_ACCESS_KEY", secret)
    };
    servers.add(SeaweedFs::available(), "s3", |_| {
        let server = SeaweedFs::shared();
        server.make_bucket("lua");
        s3("seaweed", &server.endpoint())
    });
    servers.add(RcloneS3::available(), "a weak s3", |servers| {
        let server = RcloneS3::new("lua");
        let kind = s3("rclone", &server.endpoint);
        servers.keep(server);
        kind
    });
    servers.add(GoogleFront::available(), "gs", |servers| {
        let server = GoogleFront::new();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("account.json");
        let account = format!(
            r#"{{"type":"service_account","disable_oauth":true,"gcs_base_url":"{}","client_email":"x","private_key":"x","private_key_id":"x"}}"#,
            server.endpoint
        );
        std::fs::write(&file, account).unwrap();
        servers.keep((server, directory));
        Kind::new("google", "gs://google/lua", "").with("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())
    });
    servers.add(Azurite::available(), "az", |servers| {
        let server = Azurite::new();
        server.make_container("lua");
        let (account, key) = Azurite::ACCOUNT;
        let settings = format!("    endpoint: {}\n", server.endpoint);
        servers.keep(server);
        Kind::new("azure", "az://lua/prefix", &settings)
            .with("AZURE_STORAGE_ACCOUNT_NAME", account)
            .with("AZURE_STORAGE_ACCESS_KEY", key)
    });
    servers.add(Nginx::available(), "https", |servers| {
        let server = Nginx::new();
        let uri = format!("https://localhost:{}/bearer/lua", server.port);
        let certificate = server.authority.certificate.display();
        let settings = format!("    caFile: {certificate}\n    credentials: {{envPrefix: OFFICE_}}\n");
        servers.keep(server);
        Kind::new("nginx", &uri, &settings).with("OFFICE_HEPH_CACHE_TOKEN", Nginx::TOKEN)
    });
    servers.add(WebDav::available(), "webdav", |servers| {
        let server = WebDav::new();
        let (user, password) = WebDav::LOGIN;
        let uri = format!("https://{user}:{password}@localhost:{}/lua", server.port);
        let settings = format!("    caFile: {}\n", server.authority.certificate.display());
        servers.keep(server);
        Kind::new("webdav", &uri, &settings)
    });
    servers.add(Redis::available(), "redis", |servers| {
        let server = Redis::new();
        let uri = format!("redis://127.0.0.1:{}/2/lua", server.port);
        servers.keep(server);
        Kind::new("redis", &uri, "").with("REDIS_PASSWORD", Redis::PASSWORD)
    });
    servers.add(Memcached::available(), "memcached", |servers| {
        let several = [0; 2].map(|_| Memcached::new(64, "1m"));
        let [first, second] = several
            .each_ref()
            .map(|server| format!("127.0.0.1:{}", server.port));
        servers.keep(several);
        Kind::new("memcached", &format!("memcached://{first},{second}/lua"), "")
    });
    let directory = tempfile::tempdir().unwrap();
    let uri = format!("file://{}/cache", directory.path().display());
    servers.keep(directory);
    servers.kinds.push(Kind::new("directory", &uri, ""));
    servers
}

fn use_caches<'a>(env: &mut Environment, kinds: impl IntoIterator<Item = &'a Kind>, settings: &str) {
    let mut config = env.read(".hephconfig");
    config.push_str("caches:\n");
    for kind in kinds {
        config.push_str(&kind.entry);
        config.push_str(settings);
        for (name, value) in &kind.variables {
            env.set(name, value.clone());
        }
    }
    env.write(".hephconfig", config);
}

#[test]
fn another_machine_builds_lua_without_executing_anything() {
    let Some(mut first) = lua("another_machine_builds_lua_without_executing_anything") else {
        return;
    };
    let servers = all();
    use_caches(&mut first, &servers.kinds, "    read: false\n");
    let built = first.build("//...");
    let count = built.executed().len();
    assert!(count > 30, "{}", built.run);
    assert_eq!(built.notices(), [""; 0], "no cache complains");
    let flushed = first.heph(["cache", "flush"]).run();
    assert_eq!(flushed.success().out(), "everything is uploaded\n");
    for kind in &servers.kinds {
        let mut second = lua("another_machine_builds_lua_without_executing_anything").unwrap();
        use_caches(&mut second, [kind], "    write: false\n");
        let built = second.build("//...");
        let from_there = built.with_outcome("remote");
        assert_eq!(built.executed(), [""; 0], "{}: {}", kind.name, built.run);
        assert_eq!(from_there.len(), count, "{}: {}", kind.name, built.run);
        assert_eq!(built.notices(), [""; 0], "{}", kind.name);
        let said = second.heph(["run", "--cat-out", "test", "//..."]).run();
        said.success().says("lua is well");
        second.stop_daemons();
    }
    first.stop_daemons();
}
