//! What every kind of remote cache promises, shown with real servers.

mod checks;
mod errors;
mod streaming;
mod subject;

use std::net::TcpListener;

use heph_tests::needs;
use heph_tests::servers::{
    Authority, Azurite, GoogleFront, Memcached, Nginx, RcloneS3, Redis, SeaweedFs, WebDav,
};

use crate::file_systems::Mounted;
use subject::Subject;

#[tokio::test(flavor = "multi_thread")]
async fn file() {
    let directory = tempfile::tempdir().unwrap();
    let subject = Subject::new("file", &format!("file://{}/cache", directory.path().display()));
    checks::all(&subject).await;
    assert!(subject.conditional, "a directory knows what is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_seaweedfs() {
    if !needs(
        "backends::s3_seaweedfs",
        "tests/setup has not installed SeaweedFS",
        SeaweedFs::available(),
    ) {
        return;
    }
    let server = blocking(SeaweedFs::shared).await;
    blocking(|| server.make_bucket("conformance")).await;
    let (key, secret) = SeaweedFs::KEY;
    let subject = Subject::new("s3", "s3://conformance/some/prefix")
        .endpoint(&server.endpoint())
        .with("AWS_ACCESS_KEY_ID", key)
        .with("AWS_SECRET_ACCESS_KEY", secret)
        .conditional();
    checks::all(&subject).await;

    errors::denied(&subject.clone().with("AWS_SECRET_ACCESS_KEY", "wrong-secret")).await;
    errors::denied(&subject.clone().with("AWS_ACCESS_KEY_ID", "nobody-has-this-key")).await;
    let (key, secret) = SeaweedFs::READER;
    let reader = subject
        .clone()
        .with("AWS_ACCESS_KEY_ID", key)
        .with("AWS_SECRET_ACCESS_KEY", secret);
    errors::read_only(&reader).await;
    // Written to, it would make the bucket.
    let missing = subject.clone().at("s3://there-is-no-such-bucket/x");
    errors::missing(&missing, "there-is-no-such-bucket", &["get", "open", "probe"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_that_ignores_conditions() {
    if !needs(
        "backends::s3_that_ignores_conditions",
        "tests/setup has not installed rclone",
        RcloneS3::available(),
    ) {
        return;
    }
    let server = blocking(|| RcloneS3::new("conformance")).await;
    let (key, secret) = SeaweedFs::KEY;
    let subject = Subject::new("s3", "s3://conformance")
        .endpoint(&server.endpoint)
        .with("AWS_ACCESS_KEY_ID", key)
        .with("AWS_SECRET_ACCESS_KEY", secret)
        .weak();
    checks::all(&subject).await;
    errors::denied(&subject.clone().with("AWS_SECRET_ACCESS_KEY", "wrong-secret")).await;
    let endpoint = server.endpoint.clone();
    drop(server);
    errors::gone(&subject.endpoint(&endpoint)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_nginx() {
    if !needs(
        "backends::https_nginx",
        "nginx or openssl is missing",
        Nginx::available(),
    ) {
        return;
    }
    let server = blocking(Nginx::new).await;
    let at = |folder: &str| format!("https://localhost:{}/{folder}", server.port);
    let open = Subject::new("https", &at("open/cache")).authority(&server.authority.certificate);
    checks::all(&open).await;
    let bearer = open
        .clone()
        .at(&at("bearer/cache"))
        .with("HEPH_CACHE_TOKEN", Nginx::TOKEN);
    checks::small(&bearer).await;
    checks::small(&bearer.clone().prefixed("EU_", "HEPH_CACHE_TOKEN", Nginx::TOKEN)).await;

    errors::denied(&bearer.clone().with("HEPH_CACHE_TOKEN", "wrong-token")).await;
    errors::denied(&bearer.clone().prefixed("EU_", "OTHER", "x")).await;
    errors::read_only(&open.clone().at(&at("read"))).await;
    errors::certificate(&open.clone().authority(&server.authority.other)).await;
    errors::certificate(&open.clone().without_authority()).await;
    errors::throttled(&open.clone().at(&at("busy")), 7).await;
    errors::broken(&open.clone().at(&at("broken"))).await;
    errors::too_large(&open.clone().at(&at("limited")), 4096).await;
    checks::small(&open.clone().at(&at("moved/cache"))).await;

    // SSL_CERT_FILE alone will do, and the scheme need not be https.
    let certificate = server.authority.certificate.display().to_string();
    checks::small(
        &open
            .clone()
            .without_authority()
            .with("SSL_CERT_FILE", &certificate),
    )
    .await;
    checks::small(
        &open
            .clone()
            .at(&format!("http://127.0.0.1:{}/open/plain", server.plain)),
    )
    .await;
    let gone = open
        .without_authority()
        .at(&format!("http://127.0.0.1:{}/open", server.plain));
    drop(server);
    errors::gone(&gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_webdav() {
    if !needs(
        "backends::https_webdav",
        "tests/setup has not installed rclone",
        WebDav::available(),
    ) {
        return;
    }
    let server = blocking(WebDav::new).await;
    let (user, password) = WebDav::LOGIN;
    let subject = Subject::new(
        "https",
        &format!("https://localhost:{}/not/there/yet", server.port),
    )
    .authority(&server.authority.certificate)
    .with("HEPH_CACHE_USER", user)
    .with("HEPH_CACHE_PASSWORD", password)
    .keeping_halves();
    checks::all(&subject).await;
    errors::denied(&subject.clone().with("HEPH_CACHE_PASSWORD", "wrong-password")).await;
    let in_uri = format!("https://{user}:{password}@localhost:{}/uri", server.port);
    checks::small(&subject.clone().without("HEPH_CACHE_PASSWORD").at(&in_uri)).await;
    // It is this cache's own: what the environment has may be another's.
    let others = subject
        .clone()
        .at(&in_uri)
        .with("HEPH_CACHE_TOKEN", "of-another-cache")
        .with("HEPH_CACHE_PASSWORD", "of-another-cache");
    checks::small(&others).await;
    let wrong = format!("https://{user}:wrong-password@localhost:{}/uri", server.port);
    errors::denied(&subject.clone().without("HEPH_CACHE_PASSWORD").at(&wrong)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    if !needs("backends::redis", "redis-server is missing", Redis::available()) {
        return;
    }
    let server = blocking(Redis::new).await;
    let at = |path: &str| format!("redis://127.0.0.1:{}{path}", server.port);
    let subject = Subject::new("redis", &at("/3/team/cache"))
        .with("REDIS_PASSWORD", Redis::PASSWORD)
        .conditional();
    checks::all(&subject).await;
    let bare = subject.clone().without("REDIS_PASSWORD");
    let login = |login: &str| format!("redis://{login}@127.0.0.1:{}", server.port);
    checks::small(&bare.clone().at(&login(&format!("default:{}", Redis::PASSWORD)))).await;
    checks::small(&bare.clone().at(&login(&format!(":{}", Redis::PASSWORD)))).await;
    errors::denied(&bare).await;
    errors::denied(&subject.clone().with("REDIS_PASSWORD", "wrong-password")).await;
    errors::denied(&bare.clone().at(&login("default:wrong-password"))).await;
    errors::denied(&subject.clone().with("REDIS_USERNAME", "nobody")).await;
    errors::missing_database(&subject.clone().at(&at("/9999"))).await;

    // What is in one database or below one prefix is not in another.
    checks::apart(&subject, &subject.clone().at(&at("/4/team/cache"))).await;
    checks::apart(&subject, &subject.clone().at(&at("/3/team/other"))).await;
    let mut short = subject.clone();
    short.ttl = Some(std::time::Duration::from_secs(1));
    checks::ends(&short).await;
    let gone = subject.clone();
    drop(server);
    errors::gone(&gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rediss() {
    if !needs(
        "backends::rediss",
        "redis-server or openssl is missing",
        Redis::available() && Authority::available(),
    ) {
        return;
    }
    let server = blocking(Redis::with_tls).await;
    let authority = server.authority.as_ref().unwrap();
    let uri = format!("rediss://localhost:{}", server.port);
    let subject = Subject::new("redis", &uri)
        .with("REDIS_PASSWORD", Redis::PASSWORD)
        .authority(&authority.certificate)
        .conditional();
    checks::all(&subject).await;
    errors::certificate(&subject.clone().without_authority()).await;
    errors::certificate(&subject.clone().authority(&authority.other)).await;
    checks::small(&subject.clone().without_authority().at(&format!("{uri}#insecure"))).await;
    errors::denied(&subject.clone().with("REDIS_PASSWORD", "wrong-password")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memcached() {
    if !needs(
        "backends::memcached",
        "memcached is missing",
        Memcached::available(),
    ) {
        return;
    }
    let servers = blocking(|| [0; 3].map(|_| Memcached::new(256, "1m"))).await;
    let [first, second, third] = servers
        .each_ref()
        .map(|server| format!("127.0.0.1:{}", server.port));
    let uri = format!("memcached://{first},{second},{third}/team");
    let subject = Subject::new("memcached", &uri).conditional();
    checks::all(&subject).await;
    checks::small(
        &subject
            .clone()
            .at(&format!("memcached://{first}/{}", "long%20".repeat(60))),
    )
    .await;
    checks::apart(
        &subject,
        &subject
            .clone()
            .at(&format!("memcached://{first},{second},{third}/other")),
    )
    .await;
    // The order of the servers does not matter.
    checks::shared(
        &subject,
        &subject
            .clone()
            .at(&format!("memcached://{third},{first},{second}/team")),
    )
    .await;
    let mut short = subject.clone();
    short.ttl = Some(std::time::Duration::from_secs(1));
    checks::ends(&short).await;
    drop(servers);
    errors::gone(&subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memcached_without_room() {
    if !needs(
        "backends::memcached_without_room",
        "memcached is missing",
        Memcached::available(),
    ) {
        return;
    }
    // A server that is too small for what is written drops parts: the object is absent then, or an error, and never something else.
    let server = blocking(|| Memcached::new(16, "1m")).await;
    let subject = Subject::new("memcached", &format!("memcached://127.0.0.1:{}", server.port));
    checks::dropped_parts(&subject, 40 << 20).await;
    let other = blocking(|| Memcached::new(64, "8m")).await;
    let wide = Subject::new("memcached", &format!("memcached://127.0.0.1:{}", other.port));
    checks::small(&wide).await;
    errors::too_large(&wide, (64 << 20) + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gs() {
    if !needs(
        "backends::gs",
        "SeaweedFS or nginx is missing",
        GoogleFront::available(),
    ) {
        return;
    }
    let server = blocking(GoogleFront::new).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("account.json");
    let account = |endpoint: &str| {
        let json = format!(
            r#"{{"type":"service_account","disable_oauth":true,"gcs_base_url":"{endpoint}","client_email":"x","private_key":"x","private_key_id":"x"}}"#
        );
        std::fs::write(&file, json).unwrap();
    };
    account(&server.endpoint);
    let subject = Subject::new("gs", "gs://google/some/prefix")
        .with("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())
        .conditional();
    checks::all(&subject).await;
    let elsewhere = subject.clone().at("gs://not-for-everybody/x");
    errors::denied(&elsewhere).await;
    let endpoint = server.endpoint.clone();
    drop(server);
    errors::gone(&subject).await;
    std::fs::write(&file, "{\"type\":\"service_account\",\"private_key\":\"not-a-key\",\"private_key_id\":\"x\",\"client_email\":\"x\"}").unwrap();
    errors::unusable(&subject.endpoint(&endpoint), "GOOGLE_APPLICATION_CREDENTIALS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn az() {
    if !needs(
        "backends::az",
        "tests/setup-deep has not installed Azurite",
        Azurite::available(),
    ) {
        return;
    }
    let server = blocking(Azurite::new).await;
    let (account, key) = Azurite::ACCOUNT;
    let subject = Subject::new("az", "az://conformance/some/prefix")
        .endpoint(&server.endpoint)
        .with("AZURE_STORAGE_ACCOUNT_NAME", account)
        .with("AZURE_STORAGE_ACCESS_KEY", key)
        .conditional();
    errors::missing(
        &subject,
        "conformance",
        &["get", "open", "put", "put_file", "probe"],
    )
    .await;
    let server = blocking(move || {
        server.make_container("conformance");
        server
    })
    .await;
    checks::all(&subject).await;
    let other = "bm90LXRoZS1rZXktb2YtdGhpcy1hY2NvdW50LWF0LWFsbA==";
    errors::denied(&subject.clone().with("AZURE_STORAGE_ACCESS_KEY", other)).await;
    let text = format!(
        "BlobEndpoint={};AccountName={account};AccountKey={key}",
        server.endpoint
    );
    let mut in_one = subject.clone().with("AZURE_STORAGE_CONNECTION_STRING", &text);
    for variable in ["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCESS_KEY"] {
        in_one = in_one.without(variable);
    }
    checks::small(&in_one).await;
    drop(server);
    errors::gone(&subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explicit_credentials_ask_no_metadata_service() {
    let metadata = TcpListener::bind("127.0.0.1:0").unwrap();
    metadata.set_nonblocking(true).unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let (metadata_host, endpoint) = (at(&metadata), format!("http://{}", at(&server)));
    let metadata_url = format!("http://{metadata_host}");
    // Caches that cannot be reached: only who is asked for credentials matters.
    drop(server);
    let account = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        account.path(),
        r#"{"type":"service_account","disable_oauth":true}"#,
    )
    .unwrap();

    let s3 = Subject::new("s3", "s3://bucket")
        .endpoint(&endpoint)
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata_url);
    let s3_key = s3
        .clone()
        .with("AWS_ACCESS_KEY_ID", "a-key")
        .with("AWS_SECRET_ACCESS_KEY", "a-secret");
    let gs = Subject::new("gs", "gs://bucket")
        .endpoint(&endpoint)
        .with("GCE_METADATA_HOST", &metadata_host);
    let gs_key = gs
        .clone()
        .with("GOOGLE_APPLICATION_CREDENTIALS", account.path().to_str().unwrap());
    let az = Subject::new("az", "az://container")
        .endpoint(&format!("{endpoint}/account"))
        .with("AZURE_STORAGE_ACCOUNT_NAME", "account")
        .with("IDENTITY_ENDPOINT", &metadata_url);
    let az_key = az.clone().with("AZURE_STORAGE_ACCESS_KEY", "YS1rZXk=");
    for explicit in [s3_key, gs_key, az_key] {
        errors::gone(&explicit).await;
        assert!(
            metadata.accept().is_err(),
            "the metadata service was asked though there are credentials"
        );
    }
    // Without any, it is: otherwise the above would show nothing.
    let variables = [
        "AWS_ACCESS_KEY_ID",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AZURE_STORAGE_ACCESS_KEY",
    ];
    for (none, variable) in [s3, gs, az].iter().zip(variables) {
        errors::no_credentials(none, variable).await;
        assert!(metadata.accept().is_ok(), "{}", none.name);
        while metadata.accept().is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_those_of_the_environment() {
    if !needs(
        "backends::proxies_are_those_of_the_environment",
        "nginx is missing",
        Nginx::available(),
    ) {
        return;
    }
    // nginx answers for any host, so it is a proxy that answers by itself.
    let server = blocking(Nginx::new).await;
    let proxy = format!("http://user:secret-of-the-proxy@127.0.0.1:{}", server.plain);
    let subject = Subject::new("http", "http://heph.invalid/open/cache").with("HTTP_PROXY", &proxy);
    checks::small(&subject).await;
    checks::small(&subject.clone().without("HTTP_PROXY").with("all_proxy", &proxy)).await;
    errors::gone(&subject.clone().with("NO_PROXY", "heph.invalid,localhost")).await;
    errors::gone(&subject.clone().without("HTTP_PROXY")).await;
    drop(server);
    errors::gone(&subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_kind_is_told() {
    let name = "backends::a_server_of_another_kind_is_told";
    if !needs(
        name,
        "nginx or redis-server is missing",
        Nginx::available() && Redis::available(),
    ) {
        return;
    }
    let (nginx, redis) = (blocking(Nginx::new).await, blocking(Redis::new).await);
    for scheme in ["redis", "rediss", "memcached", "https"] {
        errors::invalid(&Subject::new(
            scheme,
            &format!("{scheme}://127.0.0.1:{}", nginx.plain),
        ))
        .await;
    }
    // To one that waits for the end of a line, TLS is an unfinished one, until time is up.
    for scheme in ["memcached", "http"] {
        errors::invalid(&Subject::new(
            scheme,
            &format!("{scheme}://127.0.0.1:{}", redis.port),
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_is_given_up() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = server.local_addr().unwrap();
    let endpoint = format!("http://{at}");
    let s3 = Subject::new("s3", "s3://bucket")
        .endpoint(&endpoint)
        .with("AWS_ACCESS_KEY_ID", "a-key")
        .with("AWS_SECRET_ACCESS_KEY", "a-secret");
    let others = ["http", "https", "redis", "rediss", "memcached"];
    let others = others.map(|scheme| Subject::new(scheme, &format!("{scheme}://{at}")));
    let all = others.iter().chain([&s3]).map(errors::silent);
    futures_util::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_a_full_server_say_so() {
    let name = "backends::a_full_disk_and_a_full_server_say_so";
    let mounted = Mounted::tmpfs("size=3m");
    if needs(name, "cannot mount", mounted.is_some())
        && let Some(mounted) = mounted
    {
        errors::full(&Subject::new(
            "file",
            &format!("file://{}", mounted.at().display()),
        ))
        .await;
    }
    if needs(name, "redis-server is missing", Redis::available()) {
        let server = blocking(Redis::small).await;
        let uri = format!("redis://127.0.0.1:{}", server.port);
        errors::full(&Subject::new("redis", &uri).with("REDIS_PASSWORD", Redis::PASSWORD)).await;
    }
}

/// Runs what may block away from the async workers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
