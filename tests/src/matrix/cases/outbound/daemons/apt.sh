# A package and its list below DIRECTORY/www, and a configuration of apt that knows of nothing else: apt.sh DIRECTORY MIRRORS...
set -e
dir=$1
shift
package=scanguard-case
mkdir -p "$dir/build/DEBIAN" "$dir/www" "$dir/apt/etc/apt" "$dir/apt/state/lists/partial" "$dir/apt/cache/archives/partial"
cat > "$dir/build/DEBIAN/control" << CONTROL
Package: $package
Version: 1
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: nothing
CONTROL
dpkg-deb --build "$dir/build" "$dir/www/$package.deb" > /dev/null
{
    cat "$dir/build/DEBIAN/control"
    echo "Filename: ./$package.deb"
    echo "Size: $(stat -c %s "$dir/www/$package.deb")"
    echo "SHA256: $(sha256sum "$dir/www/$package.deb" | cut -d ' ' -f 1)"
} > "$dir/www/Packages"
for mirror in "$@"; do
    echo "deb [trusted=yes] http://$mirror/ ./"
done > "$dir/apt/etc/apt/sources.list"
touch "$dir/apt/status"
cat > "$dir/apt/apt.conf" << APT
Dir "$dir/apt";
Dir::State "state";
Dir::State::status "$dir/apt/status";
Dir::Cache "cache";
APT::Sandbox::User "root";
Acquire::http::Proxy "DIRECT";
Acquire::http::Timeout "2";
Acquire::Retries "0";
APT
cat > "$dir/apt.nginx" << NGINX
daemon off; master_process off; pid $dir/nginx.pid;
events { worker_connections 64; }
http { access_log off; client_body_temp_path $dir/b; proxy_temp_path $dir/p; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
server { listen 80; root $dir/www; } }
NGINX
