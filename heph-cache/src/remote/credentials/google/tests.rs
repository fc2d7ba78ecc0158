use super::super::service::Service;
use super::*;

/// The token that credentials in a file lead to.
async fn token(json: &Value) -> Result<String, RemoteError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let access = Access::with(&[("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())]);
    let Found::Token(source) = find(&access)? else {
        panic!("no source of tokens")
    };
    let scrubber = Scrubber::new(&access, source.secrets());
    let provider = Provider::new(source, &access, scrubber)?;
    Ok(provider.fetch(&provider.source).await?.value.bearer.clone())
}

#[tokio::test]
async fn a_person_a_workload_and_an_impersonation_get_tokens() {
    let service = Service::new(&[
        (
            "grant_type=refresh_token",
            r#"{"access_token":"user-token","expires_in":3600}"#,
        ),
        ("GET /subject", r#"{"value":"url-subject"}"#),
        (
            "token-exchange",
            r#"{"access_token":"federated-token","expires_in":3600}"#,
        ),
        (
            "POST /impersonate",
            r#"{"accessToken":"account-token","expireTime":"2100-01-01T00:00:00Z"}"#,
        ),
    ]);
    let url = |path: &str| format!("{}/{path}", service.url);
    let user = json!({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "refresh-me", "token_uri": url("token")});
    assert_eq!(token(&user).await.unwrap(), "user-token");
    assert!(service.requests().concat().contains("refresh_token=refresh-me"));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("subject");
    std::fs::write(&file, "file-subject\n").unwrap();
    let mut external = json!({
        "type": "external_account", "audience": "//iam/x", "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": url("sts"), "credential_source": {"file": file.to_str().unwrap()},
    });
    assert_eq!(token(&external).await.unwrap(), "federated-token");
    assert!(service.requests().concat().contains("subject_token=file-subject"));

    external["credential_source"] = json!({"url": url("subject"), "headers": {"Authorization": "bearer from-ci"},
        "format": {"type": "json", "subject_token_field_name": "value"}});
    external["service_account_impersonation_url"] = json!(url("impersonate"));
    assert_eq!(token(&external).await.unwrap(), "account-token");
    let requests = service.requests().concat();
    assert!(
        requests.contains("authorization: bearer from-ci") && requests.contains("subject_token=url-subject"),
        "{requests}"
    );
    assert!(
        requests.contains("authorization: Bearer federated-token"),
        "{requests}"
    );

    let nested = json!({"type": "impersonated_service_account", "source_credentials": user, "service_account_impersonation_url": url("impersonate")});
    assert_eq!(token(&nested).await.unwrap(), "account-token");
}

#[tokio::test]
async fn the_machine_is_asked_last_and_quickly() {
    let service = Service::new(&[(
        "metadata-flavor: Google",
        r#"{"access_token":"machine-token","expires_in":3600}"#,
    )]);
    let host = service.url.trim_start_matches("http://");
    let ask = async |host: &str| {
        let access = Access::with(&[("GCE_METADATA_HOST", host)]);
        let Found::Token(source) = find(&access).unwrap() else {
            panic!("no source")
        };
        let provider = Provider::new(source, &access, Scrubber::new(&access, None)).unwrap();
        provider
            .fetch(&provider.source)
            .await
            .map(|token| token.value.bearer.clone())
    };
    assert_eq!(ask(host).await.unwrap(), "machine-token");
    // Somebody who accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let started = std::time::Instant::now();
    let error = ask(&silent.local_addr().unwrap().to_string()).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(
        error.message.contains("GOOGLE_APPLICATION_CREDENTIALS") && error.message.contains("within a second"),
        "{error}"
    );
    assert!(find(&Access::with(&[("NO_GCE_CHECK", "true")])).is_err());
}

#[test]
fn files_that_are_none_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.json");
    for (text, expected) in [
        ("no json", "no JSON"),
        (r#"{"type":"gdch_service_account"}"#, "'gdch_service_account'"),
        (r#"{"type":"service_account"}"#, "'private_key' is missing"),
        (
            r#"{"type":"authorized_user","client_id":"i"}"#,
            "'client_secret' is missing",
        ),
        (
            r#"{"type":"external_account","audience":"a","subject_token_type":"t","token_url":"u","credential_source":{"executable":{}}}"#,
            "neither 'file' nor 'url'",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = find(&Access::with(&[(
            "GOOGLE_APPLICATION_CREDENTIALS",
            path.to_str().unwrap(),
        )]))
        .err()
        .unwrap();
        assert!(
            error.message.contains(expected) && error.message.contains("x.json"),
            "{error}"
        );
    }
}
