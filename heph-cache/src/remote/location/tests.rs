use super::*;

fn parse(text: &str) -> Result<Location, String> {
    let uri = CacheUri::parse(text).map_err(|error| error.to_string())?;
    Location::parse(&uri).map_err(|error| error.to_string())
}

fn host(name: &str, port: u16) -> Host {
    Host {
        name: name.to_owned(),
        port,
    }
}

#[test]
fn buckets_have_prefixes() {
    let bucket = |provider, prefix: &str| Location::Bucket {
        provider,
        bucket: "b".to_owned(),
        prefix: prefix.to_owned(),
    };
    assert_eq!(
        parse("s3://b/heph-cache/x/"),
        Ok(bucket(Provider::S3, "heph-cache/x"))
    );
    assert_eq!(parse("gs://b"), Ok(bucket(Provider::Gs, "")));
    assert_eq!(parse("az://b/a%20b"), Ok(bucket(Provider::Az, "a b")));
}

#[test]
fn hosts_ports_users_and_databases_are_told_apart() {
    let redis = parse("redis://h").unwrap();
    assert!(matches!(
        redis,
        Location::Redis { host: ref h, tls: false, database: 0, login: None, .. } if *h == host("h", 6379)
    ));
    let Location::Redis {
        host: at,
        tls: true,
        insecure: true,
        database: 3,
        login: Some(login),
        prefix,
    } = parse("rediss://me:p%40ss@[::1]:7000/3/team/x#insecure").unwrap()
    else {
        panic!("not as written")
    };
    assert_eq!((at, prefix.as_str()), (host("::1", 7000), "team/x"));
    assert_eq!((login.user.as_str(), login.password.as_str()), ("me", "p@ss"));

    assert_eq!(
        parse("memcached://a,b:1,[::1]:2/x"),
        Ok(Location::Memcached {
            hosts: vec![host("a", 11211), host("b", 1), host("::1", 2)],
            prefix: "x".to_owned()
        })
    );
    let Location::Http {
        base,
        login: Some(login),
    } = parse("https://u:p@h:8443/a%20b/").unwrap()
    else {
        panic!("not as written")
    };
    assert_eq!(base, "https://h:8443/a%20b");
    assert_eq!(login.user, "u");
    assert_eq!(
        parse("file:///srv/heph%20cache"),
        Ok(Location::File {
            directory: "/srv/heph cache".into()
        })
    );
}

#[test]
fn what_no_backend_can_use_is_refused_without_its_password() {
    let wrong = [
        "s3://b#insecure",
        "https://me:hunter2@h/x?y=1",
        "s3://key:hunter2@b/x",
        "rediss://me:hunter2@h:port/0",
        "redis://me:hunter2@h:0/0",
        "redis://me:hunter2@h/0#insecure",
        "memcached://me:hunter2@h",
        "file:///a/../b",
        "file:///a%2",
        "https://me:hunter2%zz@h/",
    ];
    for text in wrong {
        let problem = parse(text).expect_err(text);
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    let shown = format!("{:?}", parse("redis://me:hunter2@h").unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn variables_are_those_of_the_cache() {
    let s3 = parse("s3://b").unwrap();
    let names = credential_variables(&s3, &Credentials::EnvPrefix("EU_".to_owned()));
    for name in ["AWS_PROFILE", "EU_AWS_ACCESS_KEY_ID", "HTTPS_PROXY", "HOME"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("AZURE") || name.starts_with("EU_HTTPS"))
    );
    let file = parse("file:///srv").unwrap();
    assert!(credential_variables(&file, &Credentials::Environment).is_empty());
}
