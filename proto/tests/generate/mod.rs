/// Compiles every `.proto` file below `root/proto` into `out`.
fn generate(root: &Path, out: &Path) {
    let includes = root.join("proto");
    let files = ["manifest", "remote", "execute", "history", "service"].map(|name| includes.join(format!("heph/v1/{name}.proto")));
    let descriptors = protox::compile(files, [&includes]).expect("the .proto files are right");
    std::fs::create_dir_all(out).expect("the output directory can be made");
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .build_transport(true)
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(descriptors)
        .expect("code can be generated");
}
