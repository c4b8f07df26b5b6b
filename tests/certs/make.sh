#!/bin/sh
# Makes the certificates the tests use. They are kept with the tests, since a machine need not have openssl; run this
# again only to change them. EC P-256. Valid from 2020 to 2120, the expired one until 2021, the early one from 2119.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ALWAYS="-startdate 20200101000000Z -enddate 21200101000000Z"

authority() { # name, common name
    mkdir "$work/$1"
    : > "$work/$1/index"
    echo 01 > "$work/$1/serial"
    cat > "$work/$1/conf" <<CONF
[ca]
default_ca = own
[own]
database = $work/$1/index
serial = $work/$1/serial
new_certs_dir = $work/$1
certificate = $work/$1/ca.pem
private_key = $work/$1/ca.key
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
[any]
commonName = supplied
CONF
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" \
        -keyout "$work/$1/ca.key" -out "$work/$1/ca.csr" 2> /dev/null
    printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n' \
        > "$work/$1/ext"
    openssl ca -batch -notext -config "$work/$1/conf" -selfsign -keyfile "$work/$1/ca.key" $ALWAYS \
        -extfile "$work/$1/ext" -in "$work/$1/ca.csr" -out "$work/$1/ca.pem" 2> /dev/null
}

leaf() { # file, authority ("" signs itself), common name, extensions, dates
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" \
        -keyout "$1.key" -out "$work/$1.csr" 2> /dev/null
    printf "subjectKeyIdentifier=hash\nbasicConstraints=critical,CA:FALSE\n$4" > "$work/$1.ext"
    if [ -n "$2" ]; then
        echo 'authorityKeyIdentifier=keyid' >> "$work/$1.ext" # strict verification (Python 3.13) wants it
        openssl ca -batch -notext -config "$work/$2/conf" $5 -extfile "$work/$1.ext" \
            -in "$work/$1.csr" -out "$1.pem" 2> /dev/null
    else
        openssl ca -batch -notext -config "$work/ca/conf" -selfsign -keyfile "$1.key" $5 -extfile "$work/$1.ext" \
            -in "$work/$1.csr" -out "$1.pem" 2> /dev/null
    fi
}

LOCAL='subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nextendedKeyUsage=serverAuth\n'
OTHER='subjectAltName=DNS:other.example\nextendedKeyUsage=serverAuth\n'
CLIENT='extendedKeyUsage=clientAuth\n'

authority ca "Streamgauge Test CA"
authority other_ca "Streamgauge Other CA"
cp "$work/ca/ca.pem" ca.pem
cp "$work/other_ca/ca.pem" other_ca.pem
leaf server ca localhost "$LOCAL" "$ALWAYS"
leaf expired ca localhost "$LOCAL" "-startdate 20200101000000Z -enddate 20210101000000Z"
leaf early ca localhost "$LOCAL" "-startdate 21190101000000Z -enddate 21200101000000Z"
leaf wrong_name ca other.example "$OTHER" "$ALWAYS"
leaf self_signed "" localhost "$LOCAL" "$ALWAYS"
leaf client ca "Streamgauge Test Client" "$CLIENT" "$ALWAYS"
