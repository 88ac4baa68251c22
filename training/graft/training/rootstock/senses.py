"""Words with two meanings, and sentences for each."""

Sentences = tuple[str, ...]
SENSES: dict[str, tuple[Sentences, Sentences]] = {
    "bank": (
        ("He put his money in the bank.", "The bank closes at four.", "She works at a bank in town."),
        ("They sat on the bank of the river.", "The boat lay on the bank.", "Grass grew along the bank."),
    ),
    "bat": (
        ("A bat flew out of the cave.", "The bat sleeps in the day.", "We saw a bat at night."),
        ("He hit the ball with a bat.", "Her bat is made of wood.", "The player broke his bat."),
    ),
    "light": (
        ("Please turn on the light.", "The light of the lamp was weak.", "A light shone in the window."),
        ("The bag is very light.", "She carried a light box.", "A feather is light."),
    ),
    "ring": (
        ("She wore a gold ring.", "He lost his ring in the sea.", "The ring was too small for her finger."),
        ("I heard the phone ring.", "The bells ring on Sunday.", "Did the door bell ring?"),
    ),
    "watch": (
        ("My watch is slow.", "He looked at his watch.", "The watch was a gift."),
        ("They watch the birds.", "We watch a film on Friday.", "Watch the road."),
    ),
    "park": (
        ("Children play in the park.", "The park has old trees.", "We met in the park."),
        ("You may park the car here.", "Do not park at the gate.", "Where did you park?"),
    ),
    "letter": (
        ("He wrote a letter to his mother.", "The letter came by post.", "She read the letter twice."),
        ("The first letter of the word is a.", "Write each letter with care.", "One letter of this word is missing."),
    ),
    "spring": (
        ("Flowers bloom in spring.", "Last spring was warm.", "In spring the birds return."),
        ("The spring in the clock broke.", "A metal spring pushed the door.", "The toy jumps by a spring."),
    ),
    "rock": (
        ("A rock fell from the hill.", "He sat on a rock.", "The ship hit a rock."),
        ("They play rock all night.", "She sings in a rock group.", "Rock was loud in those years."),
    ),
    "present": (
        ("He got a present for his birthday.", "She opened the present.", "The present was wrapped in paper."),
        ("Think of the present and not of the past.", "At present nobody is here.", "For the present we wait."),
    ),
    "point": (
        ("The pencil has a sharp point.", "The point of the knife broke.", "The needle has a fine point."),
        ("Our team won by one point.", "Each right answer gives a point.", "He scored the last point."),
    ),
    "train": (
        ("The train left the station.", "We took the train to town.", "The train was late."),
        ("They train every day for the race.", "I train my dog to sit.", "She will train the new workers."),
    ),
}  # fmt: skip
