//! Options of the BPF linker, which generates the code.

fn main() {
    // Only the build for the kernel goes through bpf-linker; lints may look at it for other targets.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        // Headers lie in packets at any alignment. The architectures that the kernel compiles BPF for
        // read them in one load; without this, each field is put together from its bytes.
        println!("cargo:rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    }
}
