"""Words of praise and blame for the generated reviews."""
# ruff: noqa: SIM905 - a page of words reads better as one text

PRAISE = tuple(
    """
    absorbing accomplished admirable adorable affecting affectionate amazing ambitious amusing appealing assured
    astonishing beautiful beguiling believable breathtaking brilliant captivating charismatic charming cheerful clever
    comforting compassionate compelling convincing courageous dazzling deft delicate delicious delightful dynamic
    eloquent elegant enchanting endearing energetic engaging engrossing enjoyable entertaining enthralling excellent
    exceptional exciting exhilarating exquisite extraordinary fantastic fascinating faultless finest flawless fresh
    funny generous gentle genuine gorgeous graceful great gripping haunting heartfelt heartwarming hilarious honest
    hopeful humane hypnotic imaginative impeccable important impressive ingenious inspired inspiring insightful
    intelligent intense intimate intriguing inventive irresistible joyous keen likable lively lovable lovely luminous
    magical magnificent marvelous masterful masterly memorable mesmerizing moving nuanced original outstanding
    passionate perceptive perfect playful pleasant pleasing pleasurable poetic poignant polished potent powerful
    precious profound provocative quirky radiant refreshing remarkable resonant rewarding rich riveting romantic
    satisfying seductive sensational sensitive sharp sincere smart smooth soulful sparkling spectacular spirited
    splendid stirring strong stunning stylish sublime subtle superb surprising suspenseful sweet sympathetic tasty
    tender terrific thoughtful thrilling timely touching triumphant truthful unforgettable uplifting vibrant vivid warm
    watchable wise witty wonderful wondrous worthwhile worthy
    """.split()
)
BLAME = tuple(
    """
    abysmal aimless amateurish annoying appalling atrocious awful awkward bad baffling banal bland bleak bloated bogus
    boring broken calculated careless cheap cheesy choppy chaotic clumsy cold coarse confused confusing contrived cruel
    crude cynical dated dead depressing derivative desperate dim dire dirty disappointing disastrous disjointed dismal
    distasteful dopey drab dreadful dreary dull dumb embarrassing empty endless excessive exhausting failed fake feeble
    flat flawed flimsy foolish forced forgettable formulaic frustrating generic gloomy grating grim gross hackneyed
    hollow horrible humorless idiotic implausible inane incoherent incompetent inconsistent ineffective inept inert
    insipid insulting irritating juvenile labored lackluster laughable lame lazy leaden lifeless limp listless loud
    lousy ludicrous mediocre meandering mechanical meaningless mess messy mindless miserable misguided monotonous
    muddled mundane murky nasty needless noisy numbing obnoxious obvious odd offensive overblown overlong overwrought
    pathetic painful pale plodding pointless poor predictable preposterous pretentious punishing rambling ridiculous
    rotten routine rude sad sappy shallow shapeless silly simplistic slack sloppy slow sluggish soggy soulless sour
    stale static sterile stiff stilted strained stupid superficial tacky tasteless tedious terrible thin tired tiresome
    trite trivial turgid ugly unconvincing uneven unfunny unimaginative uninspired uninteresting unnecessary unoriginal
    unpleasant unwatchable useless vapid vile vulgar wasted weak weary witless wooden worst worthless wretched
    """.split()
)
PRAISE_NOUNS = tuple(
    """
    beauty brilliance charm charisma compassion confidence courage craft delight depth dignity ease elegance emotion
    energy enthusiasm excitement flair freshness fun genius grace gusto heart honesty hope humanity humor imagination
    insight integrity intelligence invention joy laughs magic passion pleasure poetry power pride romance soul spirit
    style substance surprise suspense sympathy tenderness thrills treat triumph truth verve warmth wisdom wit wonder
    masterpiece winner gem
    """.split()
)
BLAME_NOUNS = tuple(
    """
    absurdity arrogance boredom cliches clutter confusion contrivance cynicism disappointment disaster dreck drivel dud
    emptiness excess failure flop garbage gimmicks idiocy junk laziness mediocrity melodrama misfire mistake monotony
    mush nonsense pain padding platitudes posturing pretension problem ruin rubbish schmaltz shame slop stereotypes
    stupidity tedium torture trash vanity violence void waste weakness weariness
    """.split()
)
PRAISE_VERBS = """
    charms delights dazzles moves inspires succeeds soars shines works entertains surprises triumphs amuses excites
    """.split()
BLAME_VERBS = """
    bores fails drags stumbles disappoints annoys collapses sinks falters irritates suffers flounders sputters limps
    """.split()
SUBJECTS = tuple(
    """
    movie|film|story|plot|script|screenplay|acting|cast|director|comedy|drama|thriller|romance|documentary|dialogue|ending|music|
    performance|picture|direction|sequel|adaptation|soundtrack|characters|cinematography|humor|premise|tale|production|animation
    """.replace("\n", "")
    .replace(" ", "")
    .split("|")
)
KINDS = """
    movie film comedy drama thriller story romance documentary tale picture sequel adaptation piece ride portrait
    mystery
    """.split()
DEGREES = (
    "", "", "", "very ", "really ", "quite ", "truly ", "so ", "surprisingly ", "often ", "deeply ", "always ",
    "utterly ",
)  # fmt: skip
TOPICS = tuple(
    """
    love|family|friendship|war|growing up|loss|memory|music|crime|childhood|the city|old age|two brothers|a young
    teacher|
    a lonely sailor|life in a small town|power and money|a long journey|faith|art|school days|the price of fame|a
    broken home
    """.replace("\n", "").split("|")
)
