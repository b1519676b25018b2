/** @file Where this package lies, and what its package.json says. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The package's folder, from the sources as from the build: both are two levels below it. */
export const packageRoot: string = fileURLToPath(new URL('../../', import.meta.url));

/** The part of package.json that commands need. */
export interface PackageInfo {
	readonly version: string;
	readonly engines: { readonly node: string };
	readonly optionalDependencies: Readonly<Record<string, string>>;
}

/** Reads our package.json. */
export function packageInfo(): PackageInfo {
	return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as PackageInfo;
}
