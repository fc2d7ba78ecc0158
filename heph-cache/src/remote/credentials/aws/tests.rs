use std::collections::BTreeMap;

use super::super::service::Service;
use super::*;
use crate::remote::backend::RemoteErrorKind;

const ANSWER: &str = r#"{"AccessKeyId":"AK-got","SecretAccessKey":"secret-got","Token":"token-got","SessionToken":"token-got","Expiration":"2100-01-01T00:00:00Z"}"#;
const STS: &str = "<R><Credentials><AccessKeyId>AK-sts</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></R>";

async fn key(access: Access) -> Result<String, RemoteError> {
    let provider = Provider::new(access, "eu-west-1".to_owned())?;
    let credential = provider.kept.get(provider.current()).await?;
    let token = credential.token.as_deref().unwrap_or("-");
    Ok(format!("{} {} {token}", credential.key_id, credential.secret_key))
}

/// A home directory with both files.
fn home(config: &str, credentials: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    home
}

#[tokio::test]
async fn variables_come_first_and_prefixes_and_profiles_are_kept_apart() {
    let home = home(
        "",
        "[default]\naws_access_key_id=AK-file\naws_secret_access_key=s\n[ci]\naws_access_key_id=AK-ci\naws_secret_access_key=s\naws_session_token=t\n",
    );
    let place = home.path().to_str().unwrap();
    let all = [
        ("HOME", place),
        ("AWS_ACCESS_KEY_ID", "AK-env"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_SESSION_TOKEN", "t"),
    ];
    assert_eq!(key(Access::with(&all)).await.unwrap(), "AK-env s t");
    assert_eq!(key(Access::with(&all[..1])).await.unwrap(), "AK-file s -");
    assert_eq!(
        key(Access::with(&[all[0], ("AWS_PROFILE", "ci")])).await.unwrap(),
        "AK-ci s t"
    );

    // A cache with a profile of its own ignores the keys of others.
    let mut own = Access::with(&all);
    own.credentials = Credentials::Profile("ci".to_owned());
    assert_eq!(key(own.clone()).await.unwrap(), "AK-ci s t");
    own.credentials = Credentials::Profile("nobody".to_owned());
    let error = key(own.clone()).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Credentials);
    assert!(
        error.message.contains("'nobody'") && error.message.contains(".aws/config"),
        "{error}"
    );

    own.credentials = Credentials::EnvPrefix("EU_".to_owned());
    let error = key(own.clone()).await.unwrap_err();
    assert!(error.message.contains("EU_AWS_ACCESS_KEY_ID"), "{error}");
    own.environment.extend(BTreeMap::from([
        ("EU_AWS_ACCESS_KEY_ID".to_owned(), "AK-eu".to_owned()),
        ("EU_AWS_SECRET_ACCESS_KEY".to_owned(), "s".to_owned()),
    ]));
    assert_eq!(key(own).await.unwrap(), "AK-eu s -");

    let half = key(Access::with(&[("AWS_ACCESS_KEY_ID", "AK")]))
        .await
        .unwrap_err();
    assert!(half.message.contains("AWS_SECRET_ACCESS_KEY is not"), "{half}");
}

#[tokio::test]
async fn a_web_identity_becomes_a_role() {
    let service = Service::new(&[("AssumeRoleWithWebIdentity", STS)]);
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "identity-token\n").unwrap();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
        ("AWS_ENDPOINT_URL_STS", &service.url),
    ];
    assert_eq!(key(Access::with(&variables)).await.unwrap(), "AK-sts s t");
    let request = service.requests().concat();
    assert!(
        request.contains("WebIdentityToken=identity-token") && request.contains("role%2Fx"),
        "{request}"
    );
    assert!(
        !request.to_ascii_lowercase().contains("authorization:"),
        "{request}"
    );

    std::fs::remove_file(&token).unwrap();
    let error = key(Access::with(&variables)).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Credentials, "{error}");
}

#[tokio::test]
async fn a_profile_acts_as_a_role_with_the_keys_of_another() {
    let service = Service::new(&[("Action=AssumeRole&", STS)]);
    let home = home(
        "[profile deploy]\nrole_arn=arn:aws:iam::1:role/deploy\nsource_profile=base\nexternal_id=ext\n[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\nrole_arn=y\nsource_profile=a\n",
        "[base]\naws_access_key_id=AK-base\naws_secret_access_key=secret-base\n",
    );
    let place = home.path().to_str().unwrap();
    let with = |profile| {
        [
            ("HOME", place),
            ("AWS_PROFILE", profile),
            ("AWS_ENDPOINT_URL_STS", service.url.as_str()),
        ]
    };
    assert_eq!(key(Access::with(&with("deploy"))).await.unwrap(), "AK-sts s t");
    let request = service.requests().concat();
    assert!(
        request.contains("Credential=AK-base/") && request.contains("/eu-west-1/sts/aws4_request"),
        "{request}"
    );
    assert!(request.contains("ExternalId=ext"), "{request}");
    let error = key(Access::with(&with("a"))).await.unwrap_err();
    assert!(error.message.contains("leads back"), "{error}");
}

#[tokio::test]
async fn containers_instances_and_programs_are_asked() {
    let service = Service::new(&[
        ("GET /container", ANSWER),
        ("PUT /latest/api/token", "metadata-token"),
        ("GET /latest/meta-data/iam/security-credentials/role-x", ANSWER),
        ("GET /latest/meta-data/iam/security-credentials/", "role-x\n"),
    ]);
    let container = format!("{}/container", service.url);
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer c"),
    ];
    assert_eq!(
        key(Access::with(&variables)).await.unwrap(),
        "AK-got secret-got token-got"
    );
    assert!(service.requests().concat().contains("authorization: Bearer c"));
    let elsewhere = key(Access::with(&[(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "http://example.com/x",
    )]))
    .await
    .unwrap_err();
    assert!(elsewhere.message.contains("not this machine"), "{elsewhere}");

    let instance = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.url.as_str())];
    assert_eq!(
        key(Access::with(&instance)).await.unwrap(),
        "AK-got secret-got token-got"
    );
    assert!(
        service
            .requests()
            .last()
            .unwrap()
            .contains("x-aws-ec2-metadata-token: metadata-token")
    );
    let disabled = key(Access::with(&[
        instance[0],
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]))
    .await
    .unwrap_err();
    assert_eq!(disabled.kind, RemoteErrorKind::Credentials, "{disabled}");

    let printed = home(
        &format!(
            "[profile p]\ncredential_process = echo '{ANSWER}'\n[profile bad]\ncredential_process = echo no >&2; exit 3\n"
        ),
        "",
    );
    let place = printed.path().to_str().unwrap();
    let with = |profile| {
        [
            ("HOME", place),
            ("PATH", "/usr/bin:/bin"),
            ("AWS_PROFILE", profile),
        ]
    };
    assert_eq!(
        key(Access::with(&with("p"))).await.unwrap(),
        "AK-got secret-got token-got"
    );
    let error = key(Access::with(&with("bad"))).await.unwrap_err();
    assert!(error.message.contains("exit status: 3: no"), "{error}");
}

#[tokio::test]
async fn keys_that_change_in_a_file_are_read_again_when_they_are_asked_for_anew() {
    let home = home(
        "",
        "[default]\naws_access_key_id=AK-one\naws_secret_access_key=s\n",
    );
    let provider = Provider::new(
        Access::with(&[("HOME", home.path().to_str().unwrap())]),
        "r".to_owned(),
    )
    .unwrap();
    assert_eq!(provider.current().await.unwrap().value.key_id, "AK-one");
    std::fs::write(
        home.path().join(".aws/credentials"),
        "[default]\naws_access_key_id=AK-two\naws_secret_access_key=s\n",
    )
    .unwrap();
    let again = provider.current().await.unwrap();
    assert_eq!(again.value.key_id, "AK-two");
    assert!(again.expires.is_some(), "keys of a file are not kept for ever");
}

#[tokio::test]
async fn a_single_sign_on_is_used_while_it_lasts() {
    let answer = r#"{"roleCredentials":{"accessKeyId":"AK-sso","secretAccessKey":"s","sessionToken":"t","expiration":4102444800000}}"#;
    let service = Service::new(&[("GET /federation/credentials", answer)]);
    let home = home(
        "[profile work]\nsso_session = corp\nsso_account_id = 123\nsso_role_name = dev\n[sso-session corp]\nsso_start_url = https://corp.example/start\nsso_region = eu-west-1\n",
        "",
    );
    let cache = home.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let sign_on = |ends: &str| {
        let json = format!(
            r#"{{"startUrl":"https://corp.example/start/","accessToken":"sso-token","expiresAt":"{ends}"}}"#
        );
        std::fs::write(cache.join("abc.json"), json).unwrap();
    };
    let variables = [
        ("HOME", home.path().to_str().unwrap()),
        ("AWS_PROFILE", "work"),
        ("AWS_ENDPOINT_URL_SSO", &service.url),
    ];
    sign_on("2100-01-01T00:00:00Z");
    assert_eq!(key(Access::with(&variables)).await.unwrap(), "AK-sso s t");
    let request = service.requests().concat();
    assert!(
        request.contains("x-amz-sso_bearer_token: sso-token") && request.contains("account_id=123"),
        "{request}"
    );
    sign_on("2020-01-01T00:00:00Z");
    let error = key(Access::with(&variables)).await.unwrap_err();
    assert!(
        error.kind == RemoteErrorKind::Credentials && error.message.contains("aws sso login"),
        "{error}"
    );
}
