// What sigstore-js says of a bundle: node verify.mjs PUBLIC_KEY BUNDLE [FILE]
// With a key there is no transparency log and no time to ask for, so all thresholds are 0.
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, toTrustMaterial, Verifier } from "@sigstore/verify";

const [key, bundle, file] = process.argv.slice(2);
const publicKey = createPublicKey(readFileSync(key));
const none = { tlogs: [], ctlogs: [], certificateAuthorities: [], timestampAuthorities: [] };
const trusted = toTrustMaterial(none, () => ({ publicKey, validFor: () => true }));
const content = file === undefined ? undefined : readFileSync(file);
const entity = toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(bundle, "utf8"))), content);
new Verifier(trusted, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 }).verify(entity);
console.log("verified");
