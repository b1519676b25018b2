/**
 * @file Every command line that README.md and docs/ show is run, in one empty folder and in their order, the long ones made short. Configs that begin with a
 * file's name lie there as that file.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), 'docs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What makes a command short enough for a test. */
const shorter: Readonly<Record<string, readonly string[]>> = {
	train: ['--set', 'train.max_steps=2', '--set', 'sample.steps=2', '--set', 'sample.per_label=1', '--allow-config-change'],
	sample: ['--steps', '2'],
	profile: ['--repeats', '1'],
};

interface Example {
	readonly file: string;
	readonly words: readonly string[];
}

function examplesOf(file: string): Example[] {
	const text = readFileSync(join(root, file), 'utf8');
	const blocks = [...text.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block!);
	const lines = blocks.flatMap((block) => block.split('\n'));
	return lines.flatMap((line) => {
		const command = /(?:^|&& )npm run diffusionpipe -- (.*)$/.exec(line.replace(/\s+#.*$/, ''))?.[1];
		return command === undefined
			? []
			: [{ file, words: [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare!) }];
	});
}

const files = ['README.md', ...readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : []))];
const examples = files.flatMap(examplesOf);
for (const file of files) {
	const text = readFileSync(join(root, file), 'utf8');
	for (const [, config, name] of text.matchAll(/^```toml\n(# (\S+\.toml)\n.*?)^```/gms)) writeFileSync(join(folder, name!), config!);
}

describe('examples of the docs', () => {
	it('are found', () => {
		expect(examples.length).toBeGreaterThan(8);
	});

	it.each(examples.map((example) => [`${example.file}: ${example.words.join(' ')}`, example] as const))(
		'%s',
		async (_, { words }) => {
			const args = words.includes('--dry-run') ? words : [...words, ...(shorter[words[0]!] ?? [])];
			const { stdout, stderr } = await run('node', [join(root, 'dist/cli/main.js'), ...args], { cwd: folder });
			expect(stdout + stderr).not.toBe('');
		},
		180_000,
	);
});
