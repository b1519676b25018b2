/** @file Rules about source files that the compiler does not know: who may import whom, what must be documented, how long a file may be. */

/** A source file: its path below src/, and its text. */
export interface SourceFile {
	readonly path: string;
	readonly text: string;
}

/** Folders in the order of their dependence: each may import from itself and those before it. */
export const folders = [
	'core',
	'graph',
	'nn',
	'models',
	'diffusion',
	'plan',
	'program',
	'engine',
	'io',
	'train',
	'adapt',
	'generate',
	'cli',
] as const;

/** Where Node's own modules and packages with native code may be imported; everything else also runs in a browser. */
const nodeFolders = ['engine/local', 'engine/torch', 'io', 'train', 'generate', 'cli'];

/** Packages that are JavaScript alone. */
const purePackages = ['valibot'];

const maxLines = 500;

/** Text with comments blanked, and the contents of strings too unless they are kept; each line where it was. */
export function codeOf(text: string, keepStrings = false): string {
	const blank = (s: string) => s.replace(/[^\n]/g, ' ');
	return text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g, (s) => {
		if (s.startsWith('/')) return blank(s);
		return keepStrings ? s : s[0] + blank(s.slice(1, -1)) + s[0];
	});
}

/** Modules a file imports, re-exports, or imports when it runs. */
export function importsOf({ text }: SourceFile): string[] {
	const code = codeOf(text, true);
	const statements = code.matchAll(/^(?:import|export)\s(?:[^;'"`]*?\sfrom\s+)?'([^']+)'/gm);
	const calls = code.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g);
	return [...statements, ...calls].map(([, module]) => module!);
}

/** Path below src/ of a relative import, or undefined when it leaves src/. */
function resolve(from: string, module: string): string | undefined {
	const parts = from.split('/').slice(0, -1);
	for (const step of module.split('/')) {
		if (step === '..') {
			if (parts.length === 0) return undefined;
			parts.pop();
		} else if (step !== '.') parts.push(step);
	}
	return parts.join('/');
}

const folderOf = (path: string) => folders.indexOf(path.split('/')[0] as (typeof folders)[number]);
const within = (path: string, names: readonly string[]) => names.some((name) => path.startsWith(`${name}/`));

/** What breaks the direction of imports, as `file imports module: rule`. */
export function importFaults(files: readonly SourceFile[], packages: readonly string[]): string[] {
	const known = new Set(files.map(({ path }) => path));
	return files.flatMap((file) =>
		importsOf(file).flatMap((module) => {
			const fault = importFault(file.path, module, known, packages);
			return fault === undefined ? [] : [`${file.path} imports ${module}: ${fault}`];
		}),
	);
}

function importFault(path: string, module: string, known: ReadonlySet<string>, packages: readonly string[]): string | undefined {
	if (!module.startsWith('.')) {
		const name = module
			.split('/')
			.slice(0, module.startsWith('@') ? 2 : 1)
			.join('/');
		const native = !purePackages.includes(name);
		if (!module.startsWith('node:') && !packages.includes(name)) return 'not a dependency in package.json';
		return native && path.includes('/') && !within(path, nodeFolders) ? `only ${nodeFolders.join(', ')} may` : undefined;
	}
	const target = resolve(path, module);
	if (target === undefined) return 'it leaves src/';
	if (!known.has(target)) return 'there is no such file';
	// Files right under src/ put the package together: they import from everywhere, and nobody imports them.
	if (!path.includes('/')) return undefined;
	if (!target.includes('/')) return 'nothing imports the files right under src/';
	const [own, other] = [folderOf(path), folderOf(target)];
	if (own < 0) return `folder ${path.split('/')[0]} is not in the list of folders`;
	if (other > own) return `${folders[own]} comes before ${folders[other]}`;
	if (!within(path, nodeFolders) && within(target, nodeFolders)) return `${target} needs Node`;
	return undefined;
}

/** Use of Node's globals where code must also run in a browser. */
export function globalFaults(files: readonly SourceFile[]): string[] {
	return files.flatMap(({ path, text }) => {
		if (!path.includes('/') || within(path, nodeFolders)) return [];
		const found =
			/(?<![.\w])(?:process\.(?:env|argv|cwd|stdout|stderr|platform|memoryUsage|exit|on)|Buffer\.|__dirname|__filename|require\(|setImmediate\()/.exec(
				codeOf(text),
			);
		return found ? [`${path} uses ${found[0]}`] : [];
	});
}

/** Exported functions and classes without a docstring right above, and files without their `@file` line. */
export function docFaults(files: readonly SourceFile[]): string[] {
	return files.flatMap(({ path, text }) => {
		const lines = text.split('\n');
		const faults: string[] =
			path.includes('/') && !/^(#![^\n]*\n)?\/\*\*\s*\*?\s*@file /.test(text) ? [`${path} does not begin with @file`] : [];
		lines.forEach((line, i) => {
			const name = /^export (?:default )?(?:async )?(?:function\*?|(?:abstract )?class) (\w+)/.exec(line)?.[1];
			if (name === undefined) return;
			const above = lines[i - 1]?.trimEnd() ?? '';
			const overload = new RegExp(`^export (?:async )?function\\*? ${name}\\b.*;$`).test(above);
			const start = lines.slice(0, i).findLastIndex((l) => l.includes('/**'));
			const own = above.endsWith('*/') && !lines.slice(start, i).some((l) => l.includes('@file'));
			if (!own && !overload) faults.push(`${path}:${i + 1} ${name} has no docstring`);
		});
		return faults;
	});
}

/** Files that are too long, and uses of the type `any`. */
export function styleFaults(files: readonly SourceFile[]): string[] {
	return files.flatMap(({ path, text }) => {
		const lines = text.split('\n').length - 1;
		const faults = lines > maxLines ? [`${path} has ${lines} lines, more than ${maxLines}`] : [];
		codeOf(text)
			.split('\n')
			.forEach((line, i) => {
				if (/[:<|&,(]\s*any\b(?!\s*[:(.?])|\bas any\b|=>\s*any\b|\bany\[\]/.test(line)) faults.push(`${path}:${i + 1} uses any`);
			});
		return faults;
	});
}
